"""Spaces with networks of bags: networks of images, and what changes images, are rejected."""

from typing import Any

import pytest

from raysearch.config.space_file import parse_space
from raysearch.errors import SpaceError


def parse(**hparams: Any) -> None:
    parse_space({"epochs": 2, "trials": 2, "space": {"folds": 2, **hparams}}, "x")


def test_networks_of_bags_stand_alone() -> None:
    parse(architecture={"choice": ["abmil", "mean_pooling"]}, embedding_units=64)
    with pytest.raises(SpaceError, match="abmil takes features of slides, and cnn images"):
        parse(architecture={"choice": ["abmil", "cnn"]})


@pytest.mark.parametrize(
    ("name", "value"), [("augment", "none"), ("input_size", 96), ("weights", "imagenet")]
)
def test_what_changes_images_has_no_effect_on_bags(name: str, value: object) -> None:
    with pytest.raises(SpaceError, match=f"`{name}` has no effect with `architecture: abmil`"):
        parse(architecture="abmil", **{name: value})


def test_what_changes_bags_has_no_effect_on_images() -> None:
    with pytest.raises(SpaceError, match="`bag_size` has no effect with `architecture: cnn`"):
        parse(architecture="cnn", bag_size=64)
