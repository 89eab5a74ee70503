"""The parts of a training by name, and the hyperparameters that each reads.

A part is one function and one line in a table; its keyword-only parameters are the hyperparameters that it
reads, so a hyperparameter that nothing reads can be told before anything starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from raysearch.config.bounds import Limits
from raysearch.models.architectures import ARCHITECTURES, hparams_of
from raysearch.models.architectures.small_cnns import HEADS, POOLINGS
from raysearch.models.architectures.timm_models import TIMM
from raysearch.models.dihedral import AVERAGES
from raysearch.models.preprocessing import PREPROCESSINGS
from raysearch.models.transfer.classifier_head import with_head
from raysearch.models.transfer.input_normalization import NORMALISATIONS
from raysearch.models.transfer.pretrained_weights import FILES, IMAGENET, NONE
from raysearch.training.augmentation import AUGMENTATIONS, Augmentation
from raysearch.training.components import losses, optimizers, schedules
from raysearch.training.layer_groups import Layers

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": optimizers.adamw,
    "sgd": optimizers.sgd,
    "adam": optimizers.adam,
    "rmsprop": optimizers.rmsprop,
    "adadelta": optimizers.adadelta,
    "muon": optimizers.muon,
}
SCHEDULES: dict[str, Callable[..., LRScheduler]] = {
    "constant": schedules.constant,
    "one_cycle": schedules.one_cycle,
    "cosine": schedules.cosine,
    "exponential": schedules.exponential,
    "reduce_on_plateau": schedules.reduce_on_plateau,
}
LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": losses.cross_entropy,
    "focal": losses.focal,
}


def recipe(
    *,
    batch_size: int = 64,
    class_weights: bool = True,
    balanced_sampling: bool = False,
    mixup: float = 0.0,
    gradient_clip_norm: float = 0.0,
    ema: float = 0.0,
    tta: str = "none",
    folds: int = 3,
    patients: float = 1.0,
    auxiliary_weight: float = 1.0,
    head_epochs: int = 0,
    head_learning_rate: float = 1e-3,
    weights: str = "none",
    normalization: str = "auto",
) -> None:
    """The hyperparameters that the loop itself reads, whatever the parts are."""


# What every training reads, whatever its parts are.
ALWAYS: tuple[Callable[..., Any], ...] = (recipe, Augmentation, Layers, with_head)

# A selector's value names the part, and the part's hyperparameters.
SELECTORS: dict[str, Mapping[str, Callable[..., Any]]] = {
    "architecture": ARCHITECTURES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "loss": LOSSES,
    "preprocess": PREPROCESSINGS,
}
DEFAULTS = {
    "architecture": "cnn",
    "optimizer": "adamw",
    "schedule": "one_cycle",
    "loss": "cross_entropy",
    "preprocess": "none",
}
# A hyperparameter that a part reads only beside one value of another hyperparameter, and that one's own default.
ONLY_WITH: dict[str, tuple[str, str | bool, str | bool]] = {
    "dense": ("head", "flat", "pooled"),
    "hidden_layers": ("head", "flat", "pooled"),
    "class_weights": ("balanced_sampling", False, False),
}

LIMITS: dict[str, Limits] = {
    "architecture": Limits(str, names=tuple(ARCHITECTURES), prefix=TIMM),
    "optimizer": Limits(str, names=tuple(OPTIMIZERS)),
    "schedule": Limits(str, names=tuple(SCHEDULES)),
    "loss": Limits(str, names=tuple(LOSSES)),
    "preprocess": Limits(str, names=tuple(PREPROCESSINGS)),
    "blur_sigma": Limits(float, 0.1, 10.0),
    "clahe_clip": Limits(float, 0.1, 256.0),
    "clahe_tiles": Limits(int, 1, 64),
    "augment": Limits(str, names=AUGMENTATIONS),
    "shift": Limits(float, 0.0, 0.5),
    "zoom": Limits(float, 0.0, 1.0),
    "rotation": Limits(float, 0.0, 180.0),
    "color_jitter": Limits(float, 0.0, 0.9),
    "stain_jitter": Limits(float, 0.0, 0.9),
    "cutout": Limits(float, 0.0, 0.9),
    "weights": Limits(str, names=(NONE, IMAGENET), endings=FILES),
    "normalization": Limits(str, names=NORMALISATIONS),
    "head_hidden_units": Limits(int, 0, 16384),
    "head_batch_norm": Limits(bool),
    "head_dropout": Limits(float, 0.0, 0.95),
    "head_weight_decay": Limits(float, 0.0, 10.0),
    "head_epochs": Limits(int, 0, 10**6),
    "head_learning_rate": Limits(float, 1e-12, 100.0),
    "frozen": Limits(int, 0, 10**6),
    "layer_decay": Limits(float, 0.01, 1.0),
    "tta": Limits(str, names=tuple(AVERAGES)),
    "head": Limits(str, names=HEADS),
    "class_weights": Limits(bool),
    "balanced_sampling": Limits(bool),
    "label_smoothing": Limits(float, 0.0, 0.9),
    "focal_gamma": Limits(float, 0.0, 10.0),
    "mixup": Limits(float, 0.0, 10.0),
    "gradient_clip_norm": Limits(float, 0.0, 1e6),
    "ema": Limits(float, 0.0, 0.99999),
    "batch_size": Limits(int, 2, 65536),
    "folds": Limits(int, 2, 1000),
    "patients": Limits(float, 0.01, 1.0),
    "auxiliary_weight": Limits(float, 0.0, 100.0),
    "convolutions": Limits(int, 1, 3),
    "stages": Limits(int, 1, 6),
    "kernel": Limits(int, 1, 7),
    "pooling": Limits(str, names=POOLINGS),
    "stage_dropout": Limits(float, 0.0, 0.95),
    "hidden_layers": Limits(int, 1, 4),
    "width": Limits(int, 1, 1024),
    "dense": Limits(int, 1, 16384),
    "dropout": Limits(float, 0.0, 0.95),
    "learning_rate": Limits(float, 1e-12, 100.0),
    "weight_decay": Limits(float, 0.0, 10.0),
    "momentum": Limits(float, 0.0, 0.9999),
    "nesterov": Limits(bool),
    "rho": Limits(float, 0.0, 0.9999),
    "beta1": Limits(float, 0.0, 0.9999),
    "beta2": Limits(float, 0.0, 0.99999),
    "warmup": Limits(float, 0.0, 0.999),
    "final_lr_fraction": Limits(float, 1e-9, 1.0),
    "plateau_factor": Limits(float, 0.001, 0.999),
    "plateau_patience": Limits(int, 0, 1000),
}


def hparams_read(selected: Mapping[str, str]) -> frozenset[str]:
    """Every hyperparameter that a training reads whose selectors have the values `selected`."""
    names = set(SELECTORS).union(*map(hparams_of, ALWAYS))
    for selector, parts in SELECTORS.items():
        names |= hparams_of(parts[selected.get(selector, DEFAULTS[selector])])
    return frozenset(names)
