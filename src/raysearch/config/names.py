"""Names that a search-space file may use: studies, split schemes, objectives, components."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Literal

from raysearch.errors import DataError, contains_password

# Studies, tasks and split manifests: their names become names of files and runs.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

# The default of the option `--studies`, and the variables of this and of `--on`.
DEFAULT_STUDIES = "studies"
STUDIES_VARIABLE = "RAYSEARCH_STUDIES"
PLACE_VARIABLE = "RAYSEARCH_ON"

# The default task, and the column of its labels; the column of another task is `label_<task>`.
LABEL = "label"

# Split schemes. `folds` is the k-fold scheme whose number of folds is the hyperparameter `folds`.
FOLDS = "folds"
LEAVE_ONE_OUT, OFFICIAL = "leave-one-out", "official"
HOLDOUTS = re.compile(r"(\d{1,3})x(0?\.\d+)")

# Metrics that can be the objective, and whether higher or lower is better.
OBJECTIVES: dict[str, Literal["max", "min"]] = {
    "auroc": "max",
    "average_precision": "max",
    "accuracy": "max",
    "balanced_accuracy": "max",
    "precision": "max",
    "recall": "max",
    "f1": "max",
    "specificity": "max",
    "macro_precision": "max",
    "macro_recall": "max",
    "macro_f1": "max",
    "macro_specificity": "max",
    "mcc": "max",
    "log_loss": "min",
    "brier": "min",
}

# Components, by the hyperparameter that selects one. The registries of models and training have
# exactly these.
SMALL_ARCHITECTURES = ("benchmark", "cnn", "p4m")
# Torchvision's: those with a dropout layer before the classifier, and those without.
DROPOUT_ARCHITECTURES = (
    *("vgg16", "vgg19", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"),
    *("efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3"),
    *("efficientnet_v2_s", "mnasnet1_0", "googlenet", "inception_v3", "vit_b_16"),
)
PLAIN_ARCHITECTURES = (
    *("resnet18", "resnet50", "resnet101", "resnet152", "densenet121", "convnext_tiny"),
)
IMAGE_ARCHITECTURES = (*SMALL_ARCHITECTURES, *PLAIN_ARCHITECTURES, *DROPOUT_ARCHITECTURES)
# Those of bags: the features of the patches of a slide.
BAG_ARCHITECTURES = ("mean_pooling", "max_pooling", "abmil", "transformer_mil")
ARCHITECTURES = (*IMAGE_ARCHITECTURES, *BAG_ARCHITECTURES)
# The prefix of the name of any architecture of timm, such as `timm:resnetv2_50`.
TIMM_PREFIX = "timm:"
# Pretrained encoders: names of the table, repositories of Hugging Face's hub, and local folders.
ENCODER_NAMES = (
    *("uni", "uni2-h", "virchow", "virchow2", "h-optimus-0", "h-optimus-1", "h0-mini"),
    *("gigapath", "phikon", "phikon-v2", "midnight-12k", "lunit-s16", "lunit-s8"),
)
# Among the readers of a hyperparameter, any of them.
ENCODER = "encoder"
HUB_PREFIX = "hf-hub:"
HUB_NAME = re.compile(
    re.escape(HUB_PREFIX) + r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII
)
PATH_PREFIXES = ("/", "./", "../", "~/")
OPTIMIZERS = ("adamw", "sgd", "adam", "rmsprop", "adadelta", "muon")
SCHEDULES = ("constant", "one_cycle", "cosine", "exponential", "reduce_on_plateau")
LOSSES = ("cross_entropy", "binary_cross_entropy", "focal")
# Those that are fitted to the training rows of a fold.
FITTED_PREPROCESSINGS = ("reinhard", "macenko")
PREPROCESSINGS = ("none", "sharpen", "clahe", "gaussian", "median", "reinhard", "macenko")

# What is trained of a network: all layers, the last blocks, adapters of low rank beside its linear
# layers (LoRA), or a classifier of frozen features.
# The memory of a study: nothing, or the studies in its own folder.
NO_MEMORY, OWN_STUDIES = "none", "studies"
FULL, LAST_BLOCKS, LORA, FROZEN = "full", "last_blocks", "lora", "frozen"
# The linear layers of the blocks that have adapters.
ATTENTION, MLP, ALL = "attention", "mlp", "all"
CLASSIFIERS = ("logistic_regression", "linear", "mlp", "nearest_centroid", "nearest_neighbors")
# Those that are trained in steps of an optimizer.
TRAINED_CLASSIFIERS = ("linear", "mlp")
# Those without a loss.
NEAREST_CLASSIFIERS = ("nearest_centroid", "nearest_neighbors")

# Pretrained weights: none, ImageNet's, an encoder's own, or a file with one of these suffixes.
NO_WEIGHTS, IMAGENET, PRETRAINED = "none", "imagenet", "pretrained"
WEIGHTS_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")

# A text with fewer characters is not searched for inside longer names.
MIN_LENGTH = 4
# An error names so many of the known names; the reference pages list all.
MAX_CANDIDATES = 5


def encoder_path(architecture: str) -> bool:
    """Return whether `architecture` is the path of the folder of an encoder."""
    return architecture.startswith(PATH_PREFIXES)


def is_encoder(architecture: str) -> bool:
    """Return whether `architecture` is a pretrained encoder."""
    is_hub = architecture.startswith(HUB_PREFIX)
    return architecture in ENCODER_NAMES or is_hub or encoder_path(architecture)


def suggestion(text: object, known_names: Iterable[str]) -> str:
    """Return `; did you mean `NAME`?` with the nearest of `known_names`, or nothing."""
    text, names = str(text), list(known_names)
    longer = [name for name in names if len(text) >= MIN_LENGTH and text in name]
    nearest = [*longer, *difflib.get_close_matches(text, names, n=1, cutoff=0.6)]
    return f"; did you mean `{nearest[0]}`?" if nearest else ""


def candidates(text: object, known_names: Iterable[object]) -> str:
    """Return what an unknown `text` may be: the suggestion, and at most `MAX_CANDIDATES` names."""
    names = list(map(str, known_names))
    if not names:
        return " (there are none)"
    if len(names) <= MAX_CANDIDATES:
        return f"{suggestion(text, names)} (known: {', '.join(names)})"
    nearest = difflib.get_close_matches(str(text), names, n=MAX_CANDIDATES, cutoff=0)
    return f"{suggestion(text, names)} (nearest of {len(names)}: {', '.join(nearest)})"


def kfold_name(num_folds: int) -> str:
    """The name of the k-fold scheme with `num_folds` folds."""
    return f"{num_folds}-fold"


def holdout_name(holdouts: tuple[int, float]) -> str:
    """The name of the scheme of repeated hold-outs, given (repetitions, validation fraction)."""
    repetitions, fraction = holdouts
    return f"holdout-{repetitions}x{fraction:g}"


def parse_holdouts(text: str) -> tuple[int, float] | None:
    """Parse `5x0.2` into (repetitions, validation fraction); None if `text` has another form."""
    match = HOLDOUTS.fullmatch(text)
    if match is None or not int(match[1]) or not 0 < float(match[2]) < 1:
        return None
    return int(match[1]), float(match[2])


def reject_login(address: str) -> None:
    """Raise DataError if `address` contains a password: studies and logs store addresses."""
    if contains_password(address):
        raise DataError(
            f"{address}: contains a password or a token, which the study would store; remove it,"
            " and configure the credentials as the storage does (for s3://, in ~/.aws/credentials)"
        )
