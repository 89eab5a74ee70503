"""The table of hyperparameters: type, default, bounds, condition, reader and meaning of each.

The fields of `TrialParams` are the table. The validation of space files, their JSON schema, the
reference page and the resolved parameters of a trial all come from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, get_args, get_type_hints

from raysearch.config.hyperparameter_spec import (
    SELECTORS,
    HyperparameterSpec,
    Value,
    is_import_path,
)
from raysearch.config.names import (
    ALL,
    ARCHITECTURES,
    ATTENTION,
    BAG_ARCHITECTURES,
    CLASSIFIERS,
    DROPOUT_ARCHITECTURES,
    ENCODER,
    ENCODER_NAMES,
    FROZEN,
    FULL,
    HUB_PREFIX,
    IMAGENET,
    LAST_BLOCKS,
    LORA,
    LOSSES,
    MLP,
    NO_WEIGHTS,
    OPTIMIZERS,
    PATH_PREFIXES,
    PREPROCESSINGS,
    PRETRAINED,
    SCHEDULES,
    TIMM_PREFIX,
    WEIGHTS_SUFFIXES,
    candidates,
)
from raysearch.errors import SpaceError

# Readers: a part of a training, and components of it.
BAGS = ("architecture", *BAG_ARCHITECTURES)
CNN, PLATEAU = ("architecture", "cnn"), ("schedule", "reduce_on_plateau")
AUGMENTATION, INPUT = ("augmentation",), ("input",)
WITH_WARMUP = ("constant", "one_cycle", "cosine", "exponential")


def _row(
    default: Value | None,
    documentation: str,
    bounds: tuple[float, float] = (float("-inf"), float("inf")),
    reader: tuple[str, ...] = ("training",),
    **options: Any,
) -> Any:
    """Declare a field of `TrialParams` as a row of the table.

    `reader` is the part of a training that reads it, followed by the components if the part has
    several; `options` are further attributes of `HyperparameterSpec`.
    """
    row = HyperparameterSpec(
        default, documentation, *bounds, part=reader[0], components=reader[1:], **options
    )
    return field(metadata={"row": row})


@dataclass(frozen=True, kw_only=True)
class TrialParams:
    """The resolved hyperparameters of a trial: sampled values, and defaults of the others.

    `resolve` makes them. A row of the table has no default of its own.

    Attributes:
        declared: The sampled values of the hyperparameters that components of the user's declare.
    """

    declared: Mapping[str, Value] = field(default_factory=dict, hash=False)

    architecture: str = _row(
        "cnn",
        "The network, any network of timm, a pretrained encoder, or a network of bags",
        choices=(*ARCHITECTURES, *ENCODER_NAMES),
        prefixes=(TIMM_PREFIX, HUB_PREFIX, *PATH_PREFIXES),
    )
    optimizer: str = _row("adamw", "The optimizer", choices=OPTIMIZERS)
    schedule: str = _row("one_cycle", "The learning rate schedule", choices=SCHEDULES)
    loss: str = _row("cross_entropy", "The loss", choices=LOSSES)
    preprocess: str = _row(
        "none", "A filter or stain normalization of every patch", choices=PREPROCESSINGS
    )

    # Architecture
    stages: int = _row(3, "Stages, each of which halves the side", (1, 6), reader=CNN)
    convolutions: int = _row(2, "Convolutions per stage", (1, 3), reader=CNN)
    width: int = _row(
        32,
        "Filters of the first stage; each stage has twice as many as the one before",
        (1, 1024),
        reader=("architecture", "cnn", "p4m"),
        default_by_component={"p4m": 8},
    )
    kernel_size: int = _row(3, "Side of the convolution kernels", (1, 7), reader=CNN)
    pooling: str = _row(
        "max",
        "How a stage halves the side; `strided` is a convolution with stride 2",
        choices=("max", "average", "strided"),
        reader=CNN,
    )
    stage_dropout: float = _row(0.0, "Dropout after each stage", (0.0, 0.95), reader=CNN)
    head: str = _row(
        "pooled",
        "Global average pooling, or hidden layers on all positions",
        choices=("pooled", "flat"),
        reader=CNN,
    )
    hidden_units: int = _row(
        256, "Units of each hidden layer", (1, 16384), reader=CNN, condition=("head", "flat")
    )
    hidden_layers: int = _row(
        1, "Hidden layers before the classifier", (1, 4), reader=CNN, condition=("head", "flat")
    )
    dropout: float | None = _row(
        None,
        "Dropout before the classifier; by default 0 for `cnn` and `p4m`, else the network's own",
        (0.0, 0.95),
        reader=(
            *("architecture", "cnn", "p4m"),
            *(*DROPOUT_ARCHITECTURES, *BAG_ARCHITECTURES, TIMM_PREFIX),
        ),
        default_by_component=dict.fromkeys(("cnn", "p4m", *BAG_ARCHITECTURES), 0.0),
    )

    # Bags: the features of the patches of a slide
    embedding_units: int = _row(
        256, "Units to which the features of a patch are embedded", (1, 8192), reader=BAGS
    )
    attention_units: int = _row(
        128, "Units of the gated attention", (1, 8192), reader=("architecture", "abmil")
    )
    transformer_layers: int = _row(
        2, "Layers of the transformer", (1, 24), reader=("architecture", "transformer_mil")
    )
    attention_heads: int = _row(
        4,
        "Heads of each layer; they divide `embedding_units`",
        (1, 64),
        reader=("architecture", "transformer_mil"),
    )
    bag_size: int = _row(
        1024,
        "Patches of a slide that are drawn at random for each step; 0 for all",
        (0, 10**7),
        reader=BAGS,
        is_argument=False,
    )

    # Input
    input_size: int = _row(
        0,
        "Side of the network's input in pixels, to which patches are resized; 0 for that of the"
        " patches, or of a pretrained encoder",
        (0, 4096),
        reader=INPUT,
    )
    resize: str = _row(
        "bilinear",
        "How patches get `input_size`: interpolated, or padded with the pixels of their border",
        choices=("bilinear", "bicubic", "pad"),
        reader=INPUT,
    )

    token_pooling: str = _row(
        "auto",
        "Embedding of an encoder: as recommended, class token, mean of the patch tokens, or both",
        choices=("auto", "class", "mean", "class_mean"),
        reader=("architecture", ENCODER),
    )

    # Transfer learning
    weights: str = _row(
        NO_WEIGHTS,
        "Initial weights: none, ImageNet's, an encoder's own (its default), or a file",
        choices=(NO_WEIGHTS, IMAGENET, PRETRAINED),
        suffixes=WEIGHTS_SUFFIXES,
        encoder_default=PRETRAINED,
    )
    adaptation: str = _row(
        FULL,
        "What is trained: all layers, the last blocks, LoRA adapters, or a classifier of frozen"
        " features",
        choices=(FULL, LAST_BLOCKS, LORA, FROZEN),
    )
    trained_blocks: int = _row(
        1,
        "Last blocks that are trained, beside the head",
        (0, 10**6),
        reader=("layers",),
        condition=("adaptation", LAST_BLOCKS),
    )
    lora_rank: int = _row(
        8,
        "Rank of the adapter of each adapted linear layer",
        (1, 1024),
        reader=("lora",),
        condition=("adaptation", LORA),
    )
    lora_alpha: float | None = _row(
        None,
        "An adapter is scaled by `lora_alpha` / `lora_rank`; by default twice the rank",
        (1e-3, 1e5),
        reader=("lora",),
        condition=("adaptation", LORA),
    )
    lora_dropout: float = _row(
        0.0,
        "Dropout of the input of an adapter",
        (0.0, 0.95),
        reader=("lora",),
        condition=("adaptation", LORA),
    )
    lora_targets: str = _row(
        ATTENTION,
        "Linear layers of the blocks that have adapters: those of attention, the others, or all",
        choices=(ATTENTION, MLP, ALL),
        reader=("lora",),
        condition=("adaptation", LORA),
    )
    features: str = _row(
        "last",
        "Frozen features: those before the head, or also the means of three depths before them",
        choices=("last", "multi"),
        reader=("frozen",),
        condition=("adaptation", FROZEN),
    )
    classifier: str = _row(
        CLASSIFIERS[0],
        "The classifier of frozen features",
        choices=CLASSIFIERS,
        reader=("frozen",),
        condition=("adaptation", FROZEN),
    )
    l2_penalty: float = _row(
        0.3,
        "Factor of half the squared weights, beside the mean loss of standardized features",
        (1e-9, 1e6),
        condition=("classifier", CLASSIFIERS[0]),
    )
    num_neighbors: int = _row(
        20,
        "Training patches that vote, by the cosine similarity of their features",
        (1, 10_000),
        reader=("frozen",),
        condition=("classifier", "nearest_neighbors"),
    )
    feature_passes: int = _row(
        10,
        "Passes over the frozen features in an epoch, if `classifier` is `linear` or `mlp`",
        (1, 10_000),
        condition=("adaptation", FROZEN),
    )
    augmented_views: int = _row(
        0,
        "Random augmentations of each training patch whose frozen features are trained on, too",
        (0, 64),
        condition=("adaptation", FROZEN),
    )
    normalization: str = _row(
        "auto",
        "Input scaling: -1 to 1 (`half`), ImageNet's mean and deviation, or as the weights need it",
        choices=("auto", "half", "imagenet"),
    )
    head_hidden_units: int = _row(
        0, "Units of each hidden layer in a new head; 0 for none", (0, 16384), reader=("head",)
    )
    head_hidden_layers: int = _row(
        1, "Hidden layers of `head_hidden_units` in a new head", (1, 16), reader=("head",)
    )
    head_batch_norm: bool = _row(
        False, "Batch norm of the features in a new head", reader=("head",)
    )
    head_dropout: float = _row(0.0, "Dropout in a new head", (0.0, 0.95), reader=("head",))
    head_weight_decay: float | None = _row(
        None, "Weight decay of the head; by default `weight_decay`", (0.0, 10.0), reader=("layers",)
    )
    head_epochs: int = _row(0, "First epochs, in which only the head is trained", (0, 10**6))
    head_learning_rate: float | None = _row(
        None, "Learning rate in `head_epochs`; by default `learning_rate`", (1e-12, 100.0)
    )
    frozen_blocks: int = _row(
        0, "First blocks whose weights stay as they are", (0, 10**6), reader=("layers",)
    )
    layer_decay: float = _row(
        1.0,
        "Factor of the learning rate from each block to the one before",
        (0.01, 1.0),
        reader=("layers",),
    )

    # Preprocessing
    blur_sigma: float = _row(
        1.0,
        "Standard deviation of the Gaussian blur, in pixels",
        (0.1, 10.0),
        reader=("preprocess", "gaussian"),
    )
    clahe_clip_limit: float = _row(
        2.0,
        "Highest count of a histogram bin, as a multiple of the mean count",
        (0.1, 256.0),
        reader=("preprocess", "clahe"),
    )
    clahe_tile_grid: int = _row(2, "Tiles along each side", (1, 64), reader=("preprocess", "clahe"))

    # Augmentation
    augment: str = _row(
        "dihedral",
        "Random flips and quarter turns, or none",
        choices=("none", "dihedral"),
        reader=AUGMENTATION,
    )
    shift: float = _row(
        0.0, "Largest shift, as a fraction of the side", (0.0, 0.5), reader=AUGMENTATION
    )
    zoom: float = _row(
        0.0, "Largest change of the size, as a fraction", (0.0, 1.0), reader=AUGMENTATION
    )
    rotation: float = _row(0.0, "Largest rotation, in degrees", (0.0, 180.0), reader=AUGMENTATION)
    color_jitter: float = _row(
        0.0,
        "Largest change of brightness, contrast and saturation, as a fraction",
        (0.0, 0.9),
        reader=AUGMENTATION,
    )
    stain_jitter: float = _row(
        0.0,
        "Largest change of the density of each stain, as a fraction",
        (0.0, 0.9),
        reader=AUGMENTATION,
    )
    cutout: float = _row(
        0.0, "Side of a gray square, as a fraction of the side", (0.0, 0.9), reader=AUGMENTATION
    )
    mixup_alpha: float = _row(
        0.0, "Parameter of the Beta distribution that blends two patches; 0 for none", (0.0, 10.0)
    )
    tta: str = _row(
        "none",
        "Test-time augmentation: the mean logits over flips and turns, or none",
        choices=("none", "dihedral"),
    )

    # Loss and classes
    label_smoothing: float = _row(
        0.0,
        "Fraction of each label that is spread over all classes",
        (0.0, 0.9),
        reader=("loss", "cross_entropy"),
    )
    focal_gamma: float = _row(
        2.0,
        "Exponent of the focal loss; 0 gives cross entropy",
        (0.0, 10.0),
        reader=("loss", "focal"),
    )
    class_weights: bool = _row(
        True,
        "Weight of a class in the loss by its inverse frequency",
        condition=("balanced_sampling", False),
    )
    balanced_sampling: bool = _row(False, "Each class equally often in an epoch")

    # Optimizer
    learning_rate: float = _row(
        1e-3,
        "Learning rate, the highest of its schedule",
        (1e-12, 100.0),
        reader=("optimizer", *OPTIMIZERS),
        default_by_component={"sgd": 1e-2, "adadelta": 1.0, "muon": 2e-3},
    )
    weight_decay: float = _row(
        0.0,
        "Decoupled weight decay for `adamw`, else the factor of an L2 penalty",
        (0.0, 10.0),
        reader=("optimizer", *OPTIMIZERS),
        default_by_component={"adamw": 0.01},
    )
    momentum: float = _row(
        0.9,
        "Momentum",
        (0.0, 0.9999),
        reader=("optimizer", "sgd", "rmsprop", "muon"),
        default_by_component={"rmsprop": 0.0, "muon": 0.95},
    )
    nesterov: bool = _row(
        False,
        "Nesterov's momentum",
        reader=("optimizer", "sgd", "muon"),
        default_by_component={"muon": True},
    )
    rho: float = _row(
        0.9,
        "Decay of the mean of squared gradients",
        (0.0, 0.9999),
        reader=("optimizer", "rmsprop", "adadelta"),
    )
    beta1: float = _row(
        0.9, "Decay of the mean of gradients", (0.0, 0.9999), reader=("optimizer", "adamw", "adam")
    )
    beta2: float = _row(
        0.999,
        "Decay of the mean of squared gradients",
        (0.0, 0.99999),
        reader=("optimizer", "adamw", "adam"),
    )
    gradient_clip_norm: float = _row(
        0.0, "Largest norm of the gradient; 0 for no limit", (0.0, 1e6)
    )
    ema_decay: float = _row(
        0.0, "Decay of the moving average of the weights; 0 for none", (0.0, 0.99999)
    )

    # Schedule
    warmup_fraction: float = _row(
        0.0,
        "Fraction of the steps in which the learning rate rises",
        (0.0, 0.999),
        reader=("schedule", *WITH_WARMUP),
        default_by_component={"one_cycle": 0.3},
    )
    final_lr_fraction: float = _row(
        0.01,
        "Learning rate at the end, as a fraction",
        (1e-9, 1.0),
        reader=("schedule", "exponential"),
    )
    plateau_factor: float = _row(
        0.1,
        "Factor of the learning rate at a plateau of the training loss",
        (0.001, 0.999),
        reader=PLATEAU,
    )
    plateau_patience: int = _row(
        2,
        "Epochs without a lower training loss before the learning rate is reduced",
        (0, 1000),
        reader=PLATEAU,
    )

    # Data
    batch_size: int = _row(64, "Patches per step", (2, 65536))
    epochs: int | None = _row(
        None, "Epochs of a fold, in place of the key `epochs` of the space file", (1, 10**6)
    )
    folds: int = _row(3, "Number of folds of the cross-validation", (2, 1000))
    patient_fraction: float = _row(
        1.0, "Fraction of the training patients of each fold that is used", (0.01, 1.0)
    )
    auxiliary_weight: float = _row(
        1.0, "Weight of a patch of the `auxiliary` shards in the loss", (0.0, 100.0)
    )

    def value(self, name: str) -> Value | None:
        """Return the value of a hyperparameter; None of one that only other trials declare."""
        return getattr(self, name) if name in HYPERPARAMETERS else self.declared.get(name)

    def arguments_of(self, part: str) -> dict[str, Value | None]:
        """Return the keyword arguments of the component, or the other part, that `part` names."""
        components = {selector: str(getattr(self, selector)) for selector in SELECTORS}
        return {
            name: getattr(self, name)
            for name, row in HYPERPARAMETERS.items()
            if row.part == part and row.is_argument and row.is_read_by(components)
        }


def _table() -> dict[str, HyperparameterSpec]:
    hints = get_type_hints(TrialParams)
    rows = {}
    for row_field in fields(TrialParams):
        if "row" not in row_field.metadata:
            continue
        hint = hints[row_field.name]
        value_type = next((part for part in get_args(hint) if part is not type(None)), hint)
        row: HyperparameterSpec = row_field.metadata["row"]
        rows[row_field.name] = replace(row, name=row_field.name, type=value_type)
    return rows


HYPERPARAMETERS: Mapping[str, HyperparameterSpec] = _table()


def resolve(hparams: Mapping[str, Value | None]) -> TrialParams:
    """Return the parameters of a trial with `hparams`: defaults for those that it does not have.

    Other names are hyperparameters of a component of the user's, if there is one.

    Raises:
        SpaceError: If a hyperparameter is unknown or has a value that is not allowed.
    """
    values: dict[str, Value | None] = {}
    declared: dict[str, Value] = {}
    is_custom = any(is_import_path(str(hparams.get(selector))) for selector in SELECTORS)
    for name, value in hparams.items():
        if name not in HYPERPARAMETERS and is_custom and value is not None:
            declared[name] = value
            continue
        if name not in HYPERPARAMETERS:
            raise SpaceError(unknown_hyperparameter(name))
        row = HYPERPARAMETERS[name]
        if value is not None or row.default is not None:
            error = row.value_error(value)
            if error:
                raise SpaceError(f"{name}: {error}")
            values[name] = float(str(value)) if row.type is float else value
    for name, row in HYPERPARAMETERS.items():  # selectors come first
        if name not in values:
            values[name] = row.default_for(values)
    return TrialParams(declared=declared, **values)  # type: ignore[arg-type]


def unknown_hyperparameter(
    name: object, table: Mapping[str, HyperparameterSpec] = HYPERPARAMETERS
) -> str:
    """Return the message for a name that is no hyperparameter of `table`."""
    return f"unknown hyperparameter `{name}`{candidates(name, table)}"
