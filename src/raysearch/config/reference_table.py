"""The table of hyperparameters as Markdown, for the reference documentation."""

from __future__ import annotations

from collections.abc import Mapping

from raysearch.config.hyperparameter_spec import SELECTORS, HyperparameterSpec, Value
from raysearch.config.hyperparameters import HYPERPARAMETERS
from raysearch.config.names import ENCODER, OPTIMIZERS, TIMM_PREFIX

HEADER = ("Name", "Values", "Default", "Read by", "Meaning", "Term in the literature")
# The standard term of each hyperparameter, and where it was introduced if it has one source.
TERMS: Mapping[str, str] = {
    "architecture": "network architecture",
    "optimizer": "optimizer, such as AdamW (Loshchilov and Hutter, 2019) or Muon (Jordan, 2024)",
    "schedule": "learning rate schedule, such as 1cycle (Smith and Topin, 2019) or cosine annealing"
    " (Loshchilov and Hutter, 2017)",
    "loss": "loss function, such as cross entropy, binary cross entropy of one class against the"
    " rest, or focal loss (Lin et al., 2017)",
    "preprocess": "stain normalization (Reinhard et al., 2001; Macenko et al., 2009), image filter",
    "stages": "depth: number of stages with pooling between them",
    "convolutions": "depth of a stage: convolutional layers per stage",
    "width": "width: number of channels (filters)",
    "kernel_size": "kernel size",
    "pooling": "max pooling, average pooling, strided convolution",
    "stage_dropout": "dropout rate (Srivastava et al., 2014)",
    "head": "classification head: global average pooling (Lin et al., 2014) or flattening",
    "hidden_units": "width of the fully connected layers",
    "hidden_layers": "number of fully connected layers",
    "dropout": "dropout rate (Srivastava et al., 2014)",
    "embedding_units": "multiple instance learning: width of the instance embedding",
    "attention_units": "gated attention of ABMIL (Ilse et al., 2018): hidden width",
    "transformer_layers": "transformer (Vaswani et al., 2017): depth",
    "attention_heads": "multi-head attention: number of heads",
    "bag_size": "multiple instance learning: number of sampled instances of a bag",
    "input_size": "input resolution, image size",
    "resize": "interpolation (bilinear, bicubic), padding",
    "token_pooling": "pooling of a vision transformer: class token, global average pooling",
    "weights": "pretraining, transfer learning",
    "adaptation": "feature extraction (linear probing), parameter-efficient, partial or full"
    " fine-tuning",
    "trained_blocks": "layer freezing: number of layers that are fine-tuned",
    "lora_rank": "rank r of low-rank adaptation (LoRA; Hu et al., 2022)",
    "lora_alpha": "alpha of LoRA; alpha / r is the scaling",
    "lora_dropout": "LoRA dropout",
    "lora_targets": "target modules of LoRA",
    "features": "features of the penultimate layer, or of several layers",
    "classifier": "logistic regression, linear classifier, multilayer perceptron, nearest centroid"
    " (prototypes; Snell et al., 2017), k nearest neighbors (Caron et al., 2021)",
    "l2_penalty": "L2 regularization (ridge penalty), 1/(C N) of scikit-learn",
    "num_neighbors": "k of k nearest neighbors",
    "feature_passes": "number of epochs of the training of a head",
    "augmented_views": "number of augmented copies of the training set",
    "normalization": "input normalization (standardization)",
    "head_hidden_units": "width of the hidden layers (dense layers) of the classification head",
    "head_hidden_layers": "depth of the classification head: number of dense layers",
    "head_batch_norm": "batch normalization (Ioffe and Szegedy, 2015)",
    "head_dropout": "dropout rate of the classification head",
    "head_weight_decay": "weight decay of a parameter group",
    "head_epochs": "linear probing before fine-tuning (Kumar et al., 2022)",
    "head_learning_rate": "learning rate of linear probing",
    "frozen_blocks": "layer freezing",
    "layer_decay": "layer-wise learning rate decay (Howard and Ruder, 2018; Clark et al., 2020)",
    "blur_sigma": "standard deviation of a Gaussian filter",
    "clahe_clip_limit": "clip limit of CLAHE, contrast-limited adaptive histogram equalization"
    " (Zuiderveld, 1994)",
    "clahe_tile_grid": "tile grid size of CLAHE",
    "augment": "data augmentation by the dihedral group",
    "shift": "random translation",
    "zoom": "random scaling",
    "rotation": "random rotation",
    "color_jitter": "color jitter",
    "stain_jitter": "stain augmentation (Tellez et al., 2018)",
    "cutout": "Cutout (DeVries and Taylor, 2017)",
    "mixup_alpha": "alpha of mixup (Zhang et al., 2018)",
    "tta": "test-time augmentation",
    "label_smoothing": "label smoothing (Szegedy et al., 2016)",
    "focal_gamma": "focusing parameter gamma (Lin et al., 2017)",
    "class_weights": "class weighting, cost-sensitive learning",
    "balanced_sampling": "class-balanced sampling (oversampling)",
    "learning_rate": "learning rate, step size",
    "weight_decay": "decoupled weight decay (Loshchilov and Hutter, 2019), L2 regularization",
    "momentum": "momentum (Polyak, 1964)",
    "nesterov": "Nesterov's accelerated gradient (Nesterov, 1983)",
    "rho": "smoothing constant of the squared gradients (alpha of RMSprop, rho of Adadelta)",
    "beta1": "beta 1, first-moment decay (Kingma and Ba, 2015)",
    "beta2": "beta 2, second-moment decay (Kingma and Ba, 2015)",
    "gradient_clip_norm": "gradient clipping by norm (Pascanu et al., 2013)",
    "ema_decay": "exponential moving average of the weights (Polyak and Juditsky, 1992)",
    "warmup_fraction": "learning rate warmup (Goyal et al., 2017)",
    "final_lr_fraction": "ratio of the final to the highest learning rate",
    "plateau_factor": "factor of reduce-on-plateau",
    "plateau_patience": "patience of reduce-on-plateau",
    "batch_size": "mini-batch size",
    "epochs": "number of epochs, length of the training",
    "folds": "k of k-fold cross-validation",
    "patient_fraction": "subsampling of the training set, multi-fidelity by data size",
    "auxiliary_weight": "sample weight, importance weight",
}
# The value that applies if there is no default: that of another hyperparameter, or the network's.
INHERITED: Mapping[str, str] = {
    "dropout": "the network's own",
    "lora_alpha": "twice `lora_rank`",
    "epochs": "that of the key `epochs`",
    "head_weight_decay": "that of `weight_decay`",
    "head_learning_rate": "that of `learning_rate`",
}


def hyperparameter_table_markdown() -> str:
    """Return the table as Markdown, for the reference documentation."""
    lines = [f"| {' | '.join(HEADER)} |", "| --- " * len(HEADER) + "|"]
    for name, row in HYPERPARAMETERS.items():
        cells = (f"`{name}`", _values_cell(row), _default_cell(row), _reader_cell(row))
        lines.append(f"| {' | '.join(cells)} | {row.documentation} | {TERMS[name]} |")
    return "\n".join(lines) + "\n"


def _values_cell(row: HyperparameterSpec) -> str:
    if row.type is bool:
        return "`true`, `false`"
    if row.type is str:
        names = [*row.choices, *(f"{prefix}NAME" for prefix in row.prefixes), *row.suffixes]
        names += ["MODULE:FUNCTION"] if row.name in SELECTORS else []
        return ", ".join(f"`{name}`" for name in names)
    kind = "integer" if row.type is int else "number"
    return f"{kind}, {_bound(row.low)} to {_bound(row.high)}"


def _bound(value: float) -> str:
    """A bound in digits, but a tiny one with an exponent."""
    return f"{value:,.0f}" if value >= 10_000 else f"{value:g}"


def _text(value: Value | None) -> str:
    return "" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _default_cell(row: HyperparameterSpec) -> str:
    special = [f"{_text(value)} with `{name}`" for name, value in row.default_by_component.items()]
    if row.encoder_default is not None:
        special.append(f"{_text(row.encoder_default)} with a pretrained encoder")
    default = INHERITED[row.name] if row.default is None else _text(row.default)
    return "; ".join([default, *special])


def _reader_cell(row: HyperparameterSpec) -> str:
    names = [name + "NAME" if name == TIMM_PREFIX else name for name in row.components]
    if row.components == (ENCODER,):
        return "pretrained encoders"
    reader = f"{row.part} {', '.join(f'`{name}`' for name in names)}" if names else "all"
    condition = f", if `{row.condition[0]}` is {_text(row.condition[1])}" if row.condition else ""
    return "every optimizer" if row.components == OPTIMIZERS else reader + condition
