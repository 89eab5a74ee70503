"""A space has a codec, settings as text, and the walk over its active hyperparameters."""

import json
from dataclasses import replace
from typing import Any

from raysearch.config.samplers import GpSampler
from raysearch.config.space import Budget, Hyperparameter, NetworkLimits, Space, Stopping
from raysearch.config.space_file import parse_space
from raysearch.search.journal.codec import record_from_json, record_to_json
from support.spaces import HPARAMS, full_space


def test_a_space_is_the_same_after_its_codec() -> None:
    for space in (full_space(), parse_space({"space": HPARAMS}, "x")):
        assert record_from_json(Space, json.loads(json.dumps(record_to_json(space)))) == space
        plain = record_to_json(space)
        assert record_from_json(Space, plain) == space
        assert hash(record_from_json(Space, plain)) == hash(space)


def test_the_codec_keeps_the_type_of_each_value() -> None:
    hparams = (
        Hyperparameter("nesterov", "choice", (True, False)),
        Hyperparameter("stages", "choice", (1, 2)),
        Hyperparameter("dropout", "choice", (0, 0.5)),
    )
    space = replace(full_space(), hparams=hparams, points_to_evaluate=())
    decoded = record_from_json(Space, json.loads(json.dumps(record_to_json(space))))
    types = [type(value) for hparam in decoded.hparams for value in hparam.values]
    assert types == [bool, bool, int, int, int, float]


def test_settings_are_readable_and_differ_between_spaces() -> None:
    space = full_space()
    settings = space.settings()
    assert all(isinstance(text, str) and "((" not in text for text in settings.values())
    assert settings["sampler.n_startup_trials"] == "10"
    assert settings["points_to_evaluate.1"] == "learning_rate=0.001 architecture=cnn"
    assert settings["limits.parameters"] == "1000000"
    assert settings["resources.prices.g5.xlarge"] == "1.01"
    assert settings["warm_start"] == "first, second"
    changes: list[dict[str, Any]] = [
        {"sampler": GpSampler()},
        {"stopping": Stopping(2)},
        {"budget": Budget(hours=2.0)},
        {"points_to_evaluate": ()},
        {"constraints": ("width < 3",)},
        {"limits": NetworkLimits(parameters=1e6 + 1)},
        {"warm_start": ()},
        {"auxiliary": ()},
        {"resources": replace(space.resources, prices=())},
        {"hparams": space.hparams[:-1]},
    ]
    for change in changes:
        assert replace(space, **change).settings() != settings, change


def test_active_values_are_those_whose_conditions_hold() -> None:
    space = full_space()
    with_cnn = space.active_values(lambda hparam: hparam.values[-1])
    assert with_cnn["architecture"] == "cnn"
    assert {"width", "head", "hidden_units", "momentum"} <= set(with_cnn)
    with_benchmark = space.active_values(lambda hparam: hparam.values[0])
    assert with_benchmark["architecture"] == "benchmark"
    assert not {"width", "head", "hidden_units", "momentum"} & set(with_benchmark)
    assert space.active_values(lambda _hparam: None) == {}


def test_searched_hyperparameters_vary() -> None:
    names = [hparam.name for hparam in full_space().searched_hparams()]
    assert "folds" not in names
    assert "learning_rate" in names


def test_the_largest_network_of_an_architecture_has_the_largest_values_of_its_choices() -> None:
    inner = {
        "cnn": {"stages": {"choice": [4, 5, 3]}, "kernel_size": {"int": [2, 5]}},
        "mobilenet_v2": {"dropout": {"uniform": [0.1, 0.3]}},
        "vgg16": {},
    }
    space = parse_space({"space": {"architecture": {"choice": inner}}}, "x")
    assert space.largest_networks() == {
        "benchmark": {},
        "cnn": {"stages": 5, "kernel_size": 5},
        "mobilenet_v2": {"dropout": 0.3},
        "vgg16": {},
    }


def test_the_network_of_each_named_architecture_is_planned() -> None:
    for name in ("p4m", "timm:resnetv2_50", "timm:vit_tiny_patch16_224", "timm:inception_v4"):
        tree = {"epochs": 1, "trials": 1, "space": {"architecture": name}}
        assert parse_space(tree, "x").largest_networks().keys() == {"benchmark", name}
