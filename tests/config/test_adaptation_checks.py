"""Errors of spaces in which pretrained networks are adapted, or only their features are read."""

from typing import Any

import pytest

from raysearch.config.space_file import parse_space
from support.spaces import rejection

CLASSIFIERS = {
    "choice": {
        "logistic_regression": {"l2_penalty": {"loguniform": [1e-3, 10]}},
        "nearest_neighbors": {"num_neighbors": {"logint": [5, 50]}},
    }
}
FROZEN: dict[str, Any] = {
    "folds": 3,
    "architecture": "mobilenet_v2",
    "weights": "imagenet",
    "adaptation": "frozen",
    "classifier": CLASSIFIERS,
}
ADAPTED: dict[str, Any] = {
    "folds": 3,
    "architecture": "mobilenet_v2",
    "weights": "imagenet",
    "adaptation": {
        "choice": {
            "frozen": {"classifier": CLASSIFIERS},
            "last_blocks": {"trained_blocks": {"int": [1, 8]}},
            "full": {"layer_decay": {"uniform": [0.5, 1]}},
        }
    },
}
LORA: dict[str, Any] = {
    "folds": 3,
    "architecture": "phikon",
    "adaptation": {
        "choice": {
            "lora": {
                "lora_rank": {"logint": [2, 64]},
                "lora_alpha": {"loguniform": [1, 64]},
                "lora_dropout": {"uniform": [0, 0.3]},
                "lora_targets": {"choice": ["attention", "mlp", "all"]},
            },
            "full": {"frozen_blocks": {"int": [0, 6]}},
        }
    },
    "layer_decay": {"uniform": [0.5, 1]},
    "head_epochs": {"choice": [0, 1]},
    "ema_decay": 0.9,
}
RANGE = {"uniform": [0.01, 0.2]}


@pytest.mark.parametrize(
    "hparams",
    [
        FROZEN,
        FROZEN | {"classifier": "mlp", "augmented_views": 2, "stain_jitter": 0.2},
        ADAPTED,
        LORA,
        {**LORA, "adaptation": "lora", "lora_rank": 16},
        LORA | {"adaptation": {"choice": ["lora", "frozen"]}, "layer_decay": 0.8, "head_epochs": 1},
        FROZEN | {"preprocess": {"choice": ["none", "gaussian"]}},
        ADAPTED | {"color_jitter": {**RANGE, "when": {"adaptation": ["full", "last_blocks"]}}},
        ADAPTED | {"color_jitter": 0.1},
        ADAPTED | {"preprocess": {"choice": ["none", "macenko"], "when": {"adaptation": "full"}}},
        FROZEN | {"classifier": "mlp", "learning_rate": RANGE, "batch_size": {"choice": [32, 64]}},
        FROZEN | {"classifier": "mlp", "head_hidden_layers": {"choice": [1, 2]}},
        FROZEN | {"classifier": "mlp", "head_hidden_units": 64, "head_hidden_layers": 2},
        FROZEN | {"architecture": "uni", "weights": "pretrained"},
        {"folds": 3, "architecture": "uni", "adaptation": "frozen"},
        ADAPTED | {"optimizer": {"choice": ["adamw", "sgd"], "when": {"adaptation": "full"}}},
        {
            "folds": 3,
            "architecture": {
                "choice": {
                    "cnn": {"color_jitter": RANGE, "ema_decay": 0.9},
                    "mobilenet_v2": {"adaptation": "frozen", "weights": "imagenet"},
                }
            },
        },
        {
            "folds": 3,
            "architecture": "mobilenet_v2",
            "weights": {"choice": ["none", "imagenet"]},
            "adaptation": {"choice": ["full", "frozen"], "when": {"weights": "imagenet"}},
        },
        FROZEN
        | {"classifier": {"choice": ["logistic_regression", "linear"]}, "learning_rate": RANGE},
        {
            "folds": 3,
            "architecture": {"choice": {"cnn": {}, "mobilenet_v2": {"weights": "imagenet"}}},
            "adaptation": {"choice": ["full", "frozen"], "when": {"architecture": "mobilenet_v2"}},
        },
    ],
)
def test_hyperparameters_that_trials_read_are_accepted(hparams: dict[str, Any]) -> None:
    names = {hparam.name for hparam in parse_space({"space": hparams}, "x").hparams}
    assert hparams.keys() <= names


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        (
            FROZEN | {"weights": "none"},
            "space.adaptation: `frozen` needs pretrained weights, and mobilenet_v2 may have none",
        ),
        (
            ADAPTED | {"architecture": {"choice": ["cnn", "mobilenet_v2"]}, "weights": "none"},
            "space.adaptation: `frozen` needs pretrained weights, and cnn may have none",
        ),
        (
            ADAPTED | {"color_jitter": RANGE},
            "`color_jitter` has no effect with `adaptation: frozen`; remove it, or add `when:"
            " {adaptation: [full, last_blocks]}`",
        ),
        (FROZEN | {"mixup_alpha": 0.1}, "`mixup_alpha` has no effect with `adaptation: frozen`"),
        (FROZEN | {"ema_decay": 0.9}, "`ema_decay` has no effect with `adaptation: frozen`"),
        (
            ADAPTED | {"optimizer": {"choice": ["adamw", "sgd"]}},
            "`optimizer` has no effect with `adaptation: frozen`",
        ),
        (FROZEN | {"head_dropout": 0.5}, "`head_dropout` has no effect with `adaptation: frozen`"),
        (
            FROZEN | {"preprocess": {"choice": ["none", "macenko"]}},
            "space.preprocess: `macenko` is fitted to each fold, and frozen features are computed"
            " once; remove it, or add `when: {adaptation: full}`",
        ),
        (
            FROZEN | {"trained_blocks": 3},
            "`trained_blocks` has no effect unless adaptation is last_blocks",
        ),
        (
            {"folds": 3, "architecture": "mobilenet_v2", "weights": "imagenet", "l2_penalty": 0.1},
            "`l2_penalty` has no effect unless adaptation is frozen",
        ),
        (
            FROZEN | {"classifier": "linear", "num_neighbors": 3},
            "`num_neighbors` has no effect unless classifier is nearest_neighbors",
        ),
        (
            FROZEN | {"classifier": "linear", "head_hidden_units": {"choice": [8, 16]}},
            "`head_hidden_units` has no effect with `adaptation: frozen` and `classifier: linear`",
        ),
        (
            FROZEN | {"classifier": "linear", "head_hidden_layers": 2},
            "`head_hidden_layers` has no effect with `adaptation: frozen` and `classifier: linear`",
        ),
        (
            LORA | {"head_hidden_layers": 2},
            "`head_hidden_layers` has no effect with `head_hidden_units: 0`; remove it",
        ),
        (
            FROZEN
            | {
                "adaptation": {"choice": ["full", "frozen"]},
                "classifier": {"value": "mlp", "when": {"adaptation": "frozen"}},
                "head_hidden_layers": {"choice": [1, 2]},
            },
            "`head_hidden_layers` has no effect with `adaptation: full`",
        ),
        (
            FROZEN | {"classifier": "nearest_centroid", "label_smoothing": RANGE},
            "`label_smoothing` has no effect with `adaptation: frozen` and `classifier:",
        ),
        (
            FROZEN | {"classifier": {"choice": {"logistic_regression": {"feature_passes": 3}}}},
            "`feature_passes` has no effect with `adaptation: frozen`",
        ),
        (
            FROZEN | {"stain_jitter": 0.2},
            "`stain_jitter` has no effect with `adaptation: frozen`",
        ),
        (
            FROZEN | {"classifier": "nearest_neighbors", "augmented_views": 2},
            "`augmented_views` has no effect with `adaptation: frozen` and `classifier: nearest",
        ),
        (
            ADAPTED | {"augmented_views": 2},
            "`augmented_views` has no effect unless adaptation is frozen",
        ),
        (
            FROZEN | {"adaptation": "last_blocks", "classifier": "mlp"},
            "`classifier` has no effect unless adaptation is frozen",
        ),
        (
            {
                "folds": 3,
                "architecture": "mobilenet_v2",
                "weights": "imagenet",
                "adaptation": "last_blocks",
                "frozen_blocks": 3,
            },
            "`frozen_blocks` has no effect with `adaptation: last_blocks`; remove it",
        ),
        (
            {
                "folds": 3,
                "architecture": "mobilenet_v2",
                "adaptation": {"choice": ["full", "frozen"]},
                "weights": {"choice": ["none", "imagenet"], "when": {"adaptation": "full"}},
            },
            "space.adaptation: `frozen` needs pretrained weights, and mobilenet_v2 may have none",
        ),
        (
            LORA | {"adaptation": {"choice": ["lora", "full"]}, "lora_rank": {"int": [1, 8]}},
            "`lora_rank` has no effect unless adaptation is lora; remove it, or add `when:"
            " {adaptation: lora}`",
        ),
        (
            LORA | {"adaptation": "last_blocks", "lora_targets": "all"},
            "`lora_targets` has no effect unless adaptation is lora",
        ),
        (
            {"folds": 3, "architecture": "phikon", "adaptation": "lora", "frozen_blocks": 2},
            "`frozen_blocks` has no effect with `adaptation: lora`; remove it",
        ),
        (
            {"folds": 3, "architecture": "timm:vit_tiny_patch16_224", "adaptation": "lora"},
            "space.adaptation: `lora` needs pretrained weights, and timm:vit_tiny_patch16_224 may"
            " have none; give `weights: imagenet`",
        ),
        (
            {"folds": 3, "architecture": "phikon", "adaptation": "lora", "lora_targets": "qkv"},
            "'qkv' is unknown (known: attention, mlp, all)",
        ),
        (FROZEN | {"adaptation": "froozen"}, "'froozen' is unknown; did you mean `frozen`?"),
        (FROZEN | {"classifier": "svm"}, "'svm' is unknown"),
    ],
)
def test_what_no_trial_reads_is_rejected(hparams: dict[str, Any], message: str) -> None:
    assert message in rejection(space=hparams)
