"""The table of hyperparameters agrees with the components that read it, and resolves a trial."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from raysearch.config.hyperparameter_spec import SELECTORS
from raysearch.config.hyperparameters import HYPERPARAMETERS, TrialParams, resolve
from raysearch.config.names import ENCODER_NAMES, OBJECTIVES, TIMM_PREFIX
from raysearch.errors import SpaceError
from raysearch.metrics.classification import METRICS
from raysearch.models.architectures import ARCHITECTURES
from raysearch.models.dihedral import NUM_VIEWS, TEST_TIME_AUGMENTATIONS
from raysearch.models.preprocessing import PREPROCESSINGS
from raysearch.models.transfer.network_layers import with_custom_head
from raysearch.training.augmentation import Augmentation
from raysearch.training.components import LOSSES, OPTIMIZERS, SCHEDULES
from raysearch.training.layer_groups import LayerGroups

REGISTRIES: dict[str, Mapping[str, Callable[..., Any]]] = {
    "architecture": ARCHITECTURES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "loss": LOSSES,
    "preprocess": PREPROCESSINGS,
}
PARTS: dict[str, Callable[..., Any]] = {
    "head": with_custom_head,
    "layers": LayerGroups,
    "augmentation": Augmentation,
}


def keyword_only(component: Callable[..., Any]) -> dict[str, Any]:
    """Return the keyword-only parameters of `component`, and their defaults."""
    return {
        parameter.name: parameter.default
        for parameter in inspect.signature(component).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


@pytest.mark.parametrize("selector", REGISTRIES)
def test_the_registry_has_the_names_of_the_table(selector: str) -> None:
    encoders = ENCODER_NAMES if selector == "architecture" else ()
    assert {*REGISTRIES[selector], *encoders} == set(HYPERPARAMETERS[selector].choices)


@pytest.mark.parametrize("selector", REGISTRIES)
def test_a_component_reads_what_the_table_says_and_has_no_default(selector: str) -> None:
    names = [*REGISTRIES[selector]]
    names += [f"{TIMM_PREFIX}resnetv2_50"] if selector == "architecture" else []
    for name in names:
        parameters = keyword_only(REGISTRIES[selector][name])
        defaults = {default for default in parameters.values() if default is not inspect._empty}
        assert not defaults, name
        expected = resolve({selector: name}).arguments_of(selector)
        assert set(parameters) == set(expected), name


@pytest.mark.parametrize("part", PARTS)
def test_a_part_reads_what_the_table_says_and_has_no_default(part: str) -> None:
    parameters = keyword_only(PARTS[part])
    if part == "augmentation":
        # The function that `augment` names if it is one of the user's.
        assert parameters.pop("custom") is None
    assert all(default is inspect._empty for default in parameters.values())
    assert set(parameters) == {name for name, row in HYPERPARAMETERS.items() if row.part == part}


def test_other_names_agree_with_their_registries() -> None:
    assert {*REGISTRIES, "augment"} == set(SELECTORS)
    assert set(HYPERPARAMETERS["tta"].choices) == set(TEST_TIME_AUGMENTATIONS) == set(NUM_VIEWS)
    assert OBJECTIVES == METRICS


@pytest.mark.parametrize("name", HYPERPARAMETERS)
def test_every_row_has_a_default_that_is_allowed_and_a_line_of_documentation(name: str) -> None:
    row = HYPERPARAMETERS[name]
    for default in (row.default, *row.default_by_component.values()):
        assert default is None or row.value_error(default) is None
    assert row.documentation
    assert not row.documentation.endswith(".")
    assert set(row.default_by_component) <= set(row.components)
    if row.condition is not None:
        assert HYPERPARAMETERS[row.condition[0]].value_error(row.condition[1]) is None
    assert row.components or row.part not in SELECTORS or name in SELECTORS


def test_a_trial_gets_the_defaults_of_its_components() -> None:
    params = resolve({"optimizer": "muon", "schedule": "cosine", "architecture": "p4m"})
    assert (params.learning_rate, params.momentum, params.nesterov) == (2e-3, 0.95, True)
    assert (params.warmup_fraction, params.width, params.dropout) == (0.0, 8, 0.0)
    assert resolve({}).warmup_fraction == 0.3
    assert resolve({"architecture": "vgg16"}).dropout is None
    assert resolve({"optimizer": "sgd", "momentum": 0}).arguments_of("optimizer") == {
        "learning_rate": 0.01,
        "weight_decay": 0.0,
        "momentum": 0.0,
        "nesterov": False,
    }


def test_numbers_have_the_type_of_the_table() -> None:
    params = resolve({"weight_decay": 0, "batch_size": 16})
    assert type(params.weight_decay) is float
    assert type(params.batch_size) is int
    assert isinstance(hash(params), int)
    assert isinstance(params, TrialParams)


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({"speed": 3}, "unknown hyperparameter `speed`"),
        ({"widht": 3}, "unknown hyperparameter `widht`; did you mean `width`?"),
        ({"width": 0}, "width: 0 is outside 1 to 1024"),
        ({"width": 2.5}, "width: 2.5 is not an integer"),
        ({"width": True}, "width: True is not an integer"),
        ({"nesterov": 1}, "nesterov: 1 is not true or false"),
        ({"dropout": "much"}, "dropout: 'much' is not a number"),
        ({"optimizer": "sdg"}, "optimizer: 'sdg' is unknown; did you mean `sgd`?"),
        ({"weights": "idc.zip"}, "weights: 'idc.zip' is unknown"),
        ({"learning_rate": float("nan")}, "learning_rate: nan is outside"),
    ],
)
def test_hyperparameters_that_are_not_allowed_are_rejected(
    hparams: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpaceError) as rejected:
        resolve(hparams)
    assert message in str(rejected.value)
