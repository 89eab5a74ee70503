"""Names that a search-space file may use: studies, split schemes, objectives, components."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Literal

from raysearch.errors import LOGIN, DataError

# Studies, tasks and split manifests: their names become names of files and runs.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

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
ARCHITECTURES = (*SMALL_ARCHITECTURES, *PLAIN_ARCHITECTURES, *DROPOUT_ARCHITECTURES)
# The prefix of the name of any architecture of timm, such as `timm:resnetv2_50`.
TIMM_PREFIX = "timm:"
OPTIMIZERS = ("adamw", "sgd", "adam", "rmsprop", "adadelta", "muon")
SCHEDULES = ("constant", "one_cycle", "cosine", "exponential", "reduce_on_plateau")
LOSSES = ("cross_entropy", "focal")
PREPROCESSINGS = ("none", "sharpen", "clahe", "gaussian", "median", "reinhard", "macenko")

# Pretrained weights: none, ImageNet's, or a file with one of these suffixes.
NO_WEIGHTS, IMAGENET = "none", "imagenet"
WEIGHTS_SUFFIXES = (".pt", ".pth", ".safetensors")

# A text with fewer characters is not searched for inside longer names.
MIN_LENGTH = 4


def suggestion(text: object, known_names: Iterable[str]) -> str:
    """Return `; did you mean `NAME`?` with the nearest of `known_names`, or nothing."""
    text, names = str(text), list(known_names)
    longer = [name for name in names if len(text) >= MIN_LENGTH and text in name]
    nearest = [*longer, *difflib.get_close_matches(text, names, n=1, cutoff=0.6)]
    return f"; did you mean `{nearest[0]}`?" if nearest else ""


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
    if LOGIN.search(address):
        raise DataError(
            f"{address}: contains a password, which the study would store; remove it, and configure"
            " the credentials in the storage's own way (for s3://, in ~/.aws/credentials)"
        )
