"""Augmentations that move the center on which labels depend out of a patch are rejected."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from raysearch.config.hyperparameters import resolve
from raysearch.config.space import Space
from raysearch.config.space_file import parse_space
from raysearch.data.shards.sharding import write_shards
from raysearch.data.sources.listing import SourceOptions
from raysearch.errors import SpaceError
from raysearch.search.study.augmentation_checks import check_center
from raysearch.search.study.plan_creation import make_plan
from raysearch.training.augmentation import Augmentation
from support.source_images import synthetic_patches
from support.split_schemes import scheme_tree

SIDE, CENTER = 96, 32


def space_with(**hparams: Any) -> Space:
    tree = scheme_tree()
    return parse_space({**tree, "space": {**tree["space"], **hparams}}, "x")


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({"shift": 0.4}, "shift up to 0.4 can move the center of 32x32 pixels"),
        ({"shift": {"uniform": [0.0, 0.5]}}, "shift up to 0.5 can move"),
        (
            {"shift": 0.2, "zoom": 0.2, "rotation": 25},
            "shift up to 0.2, zoom up to 0.2 and rotation up to 25 can move .* out of the patches"
            " of 96x96; use shift up to 0.146",
        ),
        ({"shift": 0.1, "zoom": 1.0, "rotation": 180}, "use shift up to 0.01$"),
        ({"cutout": {"choice": [0.0, 0.5]}}, "cutout up to 0.5 can hide .* use at most 0.322"),
        ({"cutout": 0.323}, "cutout up to 0.323 can hide .* use at most 0.322"),
        (
            {"cutout": 0.25, "zoom": {"uniform": [0.0, 0.5]}},
            "cutout up to 0.25 with zoom up to 0.5 can hide .* use at most 0.211",
        ),
    ],
)
def test_strengths_that_move_or_hide_the_center_are_rejected_by_name(
    hparams: dict[str, Any], message: str
) -> None:
    space = space_with(**hparams)
    with pytest.raises(SpaceError, match=message):
        check_center(space, (SIDE, SIDE, 3), CENTER)
    check_center(space, (SIDE, SIDE, 3), None)


def test_a_large_center_leaves_little_zoom_or_none() -> None:
    with pytest.raises(SpaceError, match=r"remove shift, and use zoom up to 0\.128$"):
        check_center(space_with(shift=0.1, zoom=0.5, rotation=25), (SIDE, SIDE, 3), 64)
    with pytest.raises(SpaceError, match=r"rotation up to 25 can move .*; remove them$"):
        check_center(space_with(rotation=25), (SIDE, SIDE, 3), 90)


@pytest.mark.parametrize(
    "hparams",
    [
        {},
        {"augment": "dihedral", "color_jitter": 0.3, "stain_jitter": 0.2},
        {"shift": 0.333},
        {"shift": 0.146, "zoom": 0.2, "rotation": 25},
        {"zoom": 1.0, "rotation": 25},
        {"cutout": 0.322},
        {"cutout": 0.211, "zoom": 0.5},
    ],
)
def test_strengths_that_keep_the_center_in_view_are_accepted(hparams: dict[str, Any]) -> None:
    check_center(space_with(**hparams), (SIDE, SIDE, 3), CENTER)


def farthest_corner(shift: float, zoom: float, rotation: float) -> float:
    """How far the corners of the center are from what 300 augmented patches show, in pixels.

    The pixels of the patch are their own coordinates, so that a corner can be searched for.
    """
    hparams = {"shift": shift, "zoom": zoom, "rotation": rotation}
    augmentation = Augmentation.from_params(resolve(hparams))
    coordinates = torch.arange(SIDE, dtype=torch.float32) + 0.5
    patch = torch.stack(torch.meshgrid(coordinates, coordinates, indexing="ij"))
    batch = patch.expand(300, -1, -1, -1)
    moved = augmentation.random_affine(batch, torch.Generator().manual_seed(0))
    low, high = (SIDE - CENTER) / 2, (SIDE + CENTER) / 2
    corners = torch.tensor([[low, low], [low, high], [high, low], [high, high]])
    distances = (moved[:, None] - corners[None, :, :, None, None]).norm(dim=2)
    return float(distances.amin(dim=(2, 3)).max())


def test_the_limit_is_that_of_the_transform_itself() -> None:
    """Within the limit, all of the center is in all patches; above it, a part is not."""
    assert farthest_corner(shift=0.14, zoom=0.2, rotation=25) < 1
    assert farthest_corner(shift=0.33, zoom=0.0, rotation=0) < 1
    assert farthest_corner(shift=0.4, zoom=0.0, rotation=0) > 2


def test_a_study_of_such_shards_is_not_planned(tmp_path: Path) -> None:
    options = SourceOptions(center=24)
    write_shards("8:32:1", tmp_path / "shards", "synthetic", options=options, workers=1)
    data = str(tmp_path / "shards")
    make_plan(space_with(shift=0.25), "x", data)
    with pytest.raises(SpaceError, match=r"patches of 50x50; use shift up to 0\.26"):
        make_plan(space_with(shift=0.3), "x", data)


def test_the_center_of_auxiliary_shards_is_checked(tmp_path: Path) -> None:
    write_shards("8:32:1", tmp_path / "shards", "synthetic", workers=1)
    images = tmp_path / "images"
    for number, patch in enumerate(synthetic_patches(4, 50)):
        folder = images / ("negative", "positive")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(patch).save(folder / f"x{number}.png")
    options = SourceOptions(center=24)
    other = tmp_path / "other"
    write_shards(str(images), other, "folder", options=options, workers=1)
    tree = scheme_tree() | {"auxiliary": [str(other)]}
    data = str(tmp_path / "shards")
    for shift in (0.25, 0.3):
        space = parse_space({**tree, "space": {**tree["space"], "shift": shift}}, "x")
        if shift == 0.25:
            make_plan(space, "x", data)
            continue
        with pytest.raises(SpaceError, match=f"labels of auxiliary {other} are, out of the"):
            make_plan(space, "x", data)
