"""The networks of a space: architectures, and how they are adapted."""

from typing import Any

from raysearch.config.space_file import parse_space
from raysearch.search.journal.events import ValueExcluded
from raysearch.search.journal.history import History
from raysearch.search.sampling.searched_networks import (
    architectures_by_network,
    network_of,
    networks_of,
    remaining_networks,
    reports_per_fold,
)

HPARAMS: dict[str, Any] = {
    "folds": 2,
    "architecture": {"choice": ["cnn", "resnet18"]},
    "weights": {"choice": ["imagenet"], "when": {"architecture": "resnet18"}},
    "adaptation": {"choice": ["full", "frozen"], "when": {"architecture": "resnet18"}},
    "classifier": {"choice": ["nearest_centroid"], "when": {"adaptation": "frozen"}},
}


def test_each_adaptation_of_an_architecture_is_a_network_of_its_own() -> None:
    space = parse_space({"epochs": 4, "trials": 3, "space": HPARAMS}, "x")
    assert set(networks_of(space)) == {"cnn (full)", "resnet18 (full)", "resnet18 (frozen)"}
    assert network_of(space, {"architecture": "cnn"}) == "cnn (full)"
    assert architectures_by_network(space)["resnet18 (frozen)"] == "resnet18"
    assert reports_per_fold(space, "resnet18 (frozen)") == 1
    assert reports_per_fold(space, "resnet18 (full)") == 4
    history = History([ValueExcluded("architecture", "cnn")])
    assert set(remaining_networks(space, history)) == {"resnet18 (full)", "resnet18 (frozen)"}
    history = History([ValueExcluded("adaptation", "frozen")])
    assert set(remaining_networks(space, history)) == {"cnn (full)", "resnet18 (full)"}


def test_with_one_adaptation_the_networks_are_the_architectures() -> None:
    hparams = {"folds": 2, "architecture": {"choice": ["cnn", "p4m"]}}
    space = parse_space({"epochs": 4, "trials": 3, "space": hparams}, "x")
    assert networks_of(space) == ("cnn", "p4m")
    frozen = {"folds": 2, "architecture": "resnet18", "weights": "imagenet", "adaptation": "frozen"}
    space = parse_space({"epochs": 4, "trials": 3, "space": frozen}, "x")
    assert networks_of(space) == ("resnet18",)
    assert reports_per_fold(space, "resnet18") == 1
