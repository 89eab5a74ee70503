"""Which hyperparameters a network and a trial read."""

from __future__ import annotations

from collections.abc import Mapping

from raysearch.config.hyperparameter_spec import HyperparameterSpec
from raysearch.config.hyperparameters import HYPERPARAMETERS, TrialParams
from raysearch.config.names import (
    FROZEN,
    LAST_BLOCKS,
    LORA,
    NEAREST_CLASSIFIERS,
    TRAINED_CLASSIFIERS,
)

# Of a frozen network, they define the head, and not the features.
HEAD_HPARAMS = frozenset(
    (
        *("adaptation", "classifier", "num_neighbors", "head_hidden_units", "head_hidden_layers"),
        *("head_batch_norm", "head_dropout", "dropout", "stage_dropout"),
    )
)
# They define the adapters of LoRA, and not the network, into whose weights these are merged.
LORA_HPARAMS = frozenset(name for name, row in HYPERPARAMETERS.items() if row.part == "lora")
# They change its features, beside what defines the network, and the views of a patch.
FEATURE_HPARAMS = frozenset(
    (
        *("weights", "normalization", "preprocess", "blur_sigma", "clahe_clip_limit"),
        "clahe_tile_grid",
    )
)
# They change patches at random, beside flips and turns.
AUGMENTATION_STRENGTHS = frozenset(
    ("shift", "zoom", "rotation", "color_jitter", "stain_jitter", "cutout")
)
# What a trial does not read whose encoder is frozen: its network is not trained, and its patches
# are not changed but by flips and turns, unless it has `augmented_views`.
FROZEN_UNREAD = AUGMENTATION_STRENGTHS | frozenset(
    (
        *("mixup_alpha", "head_weight_decay", "head_epochs", "head_learning_rate"),
        *("frozen_blocks", "trained_blocks", "layer_decay", "ema_decay", "dropout"),
        "stage_dropout",
    )
)
# What the classifiers do not read that are not trained in steps.
FITTED_UNREAD = frozenset(
    (
        *(name for name, row in HYPERPARAMETERS.items() if row.part in ("optimizer", "schedule")),
        *("optimizer", "schedule", "batch_size", "feature_passes", "gradient_clip_norm"),
        *("balanced_sampling", "head_hidden_units", "head_hidden_layers", "head_batch_norm"),
        "head_dropout",
    )
)


def network_hparams(
    architecture: str, table: Mapping[str, HyperparameterSpec] = HYPERPARAMETERS
) -> frozenset[str]:
    """Return the hyperparameters that define the network of `architecture`, without its weights.

    Args:
        architecture: Its name.
        table: The table of hyperparameters, with those of the components of the user's.
    """
    components = {"architecture": architecture}
    return frozenset(
        name
        for name, row in table.items()
        if name == "adaptation"
        or row.part in ("head", "frozen", "input")
        or (row.part == "architecture" and row.is_read_by(components))
    )


def is_read(name: str, params: TrialParams) -> bool:
    """Return whether a trial with `params` reads the hyperparameter, as far as `adaptation` says.

    Args:
        name: The hyperparameter.
        params: The resolved parameters of the trial.
    """
    if name not in HYPERPARAMETERS:  # one of a component of the user's
        return name in params.declared
    condition = HYPERPARAMETERS[name].condition
    while condition is not None:
        other, value = condition
        if getattr(params, other) != value:
            return False
        condition = HYPERPARAMETERS[other].condition
    if name == "head_hidden_layers" and params.adaptation != FROZEN:
        return params.head_hidden_units > 0
    if params.adaptation in (LAST_BLOCKS, LORA):
        return name != "frozen_blocks"
    return params.adaptation != FROZEN or name not in _unread_if_frozen(params)


def _unread_if_frozen(params: TrialParams) -> frozenset[str]:
    """What a trial with frozen features does not read."""
    classifier, unread = params.classifier, FROZEN_UNREAD
    if params.augmented_views:
        unread -= AUGMENTATION_STRENGTHS
    if classifier not in TRAINED_CLASSIFIERS:
        unread |= FITTED_UNREAD
    if classifier != "mlp":
        unread |= {"head_hidden_units", "head_hidden_layers"}
    if classifier in NEAREST_CLASSIFIERS:
        unread |= {"loss", "label_smoothing", "focal_gamma"}
    if classifier == "nearest_neighbors":  # the training patches vote as they are
        unread |= AUGMENTATION_STRENGTHS | {"augmented_views"}
    return unread
