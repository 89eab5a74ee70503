"""The training shards of a model are those of its study, and say the side of their pixels."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from raysearch.data.shards.rows import ALL
from raysearch.data.shards.sharding import write_shards
from raysearch.errors import DataError
from raysearch.inference.model_loading import Model
from raysearch.inference.training_shards import (
    MissingShards,
    TrainingShards,
    check_mpp,
    find_training_shards,
    patch_mpp,
)
from support.result_studies import new_study
from support.tile_shards import tile_shards
from support.untrained_models import SIDE, untrained_model


def model_of_study(shards: Path, folder: Path) -> Model:
    """A model of a study over `shards` in the new folder `folder`."""
    return replace(untrained_model(), study=new_study(shards, folder).folder)


def test_tiles_of_slides_have_the_side_of_their_pixels(tmp_path: Path) -> None:
    shards = tile_shards(tmp_path, 0.25, SIDE)
    model = model_of_study(shards, tmp_path / "study")
    training_shards = find_training_shards(model)
    assert isinstance(training_shards, TrainingShards)
    assert (training_shards.data, training_shards.mpp) == (str(shards), 0.25)
    assert patch_mpp(None, training_shards) == 0.25


def test_other_shards_and_missing_ones_are_not_at_hand(tmp_path: Path) -> None:
    missing = find_training_shards(untrained_model())
    assert isinstance(missing, MissingShards)
    assert missing.reason.startswith("no folder of the study 'made' can be read")
    shards = tmp_path / "shards"
    write_shards("12:60:3", shards, "synthetic", workers=1)
    model = model_of_study(shards, tmp_path / "study")
    training_shards = find_training_shards(model)
    assert isinstance(training_shards, TrainingShards)
    assert training_shards.mpp is None
    shutil.rmtree(shards)
    missing = find_training_shards(model)
    assert isinstance(missing, MissingShards)
    assert f"{shards}: no such folder" in missing.reason
    write_shards("12:60:4", shards, "synthetic", workers=1)
    assert find_training_shards(model) == MissingShards(
        f"{shards}: other shards than those of the study 'study'"
    )


SYNTHETIC = TrainingShards("data", ALL, None)
TILES = replace(SYNTHETIC, mpp=0.25)
MISSING = MissingShards("no folder of the study can be read")


@pytest.mark.parametrize("shards", [SYNTHETIC, MISSING])
def test_the_user_names_a_side_that_the_shards_do_not_record(
    shards: TrainingShards | MissingShards,
) -> None:
    assert patch_mpp(0.5, shards) == 0.5


@pytest.mark.parametrize("mpp", [None, 0.25, 0.25 + 1e-12])
def test_a_recorded_side_need_not_be_named(mpp: float | None) -> None:
    assert patch_mpp(mpp, TILES) == 0.25


@pytest.mark.parametrize(
    ("mpp", "shards", "message"),
    [
        (
            None,
            SYNTHETIC,
            "the side of a pixel is unknown, because the training shards data do not record it;"
            " give it in micrometres, such as --mpp 0.5",
        ),
        (
            None,
            MISSING,
            "the side of a pixel is unknown, because the training shards are not at hand (no"
            " folder of the study can be read); give it in micrometres, such as --mpp 0.5",
        ),
        (
            0.5,
            TILES,
            "--mpp 0.5: the training shards have pixels of 0.25 micrometres; remove --mpp",
        ),
        (
            0.2501,
            TILES,
            "--mpp 0.2501: the training shards have pixels of 0.25 micrometres; remove --mpp",
        ),
        (40.0, TILES, "--mpp 40: give 0.05 to 20 micrometres a pixel"),
    ],
)
def test_an_unknown_or_contradicting_side_is_rejected(
    mpp: float | None, shards: TrainingShards | MissingShards, message: str
) -> None:
    with pytest.raises(DataError) as error:
        patch_mpp(mpp, shards)
    assert str(error.value) == message


@pytest.mark.parametrize("mpp", [0.0, -0.5, 40.0, float("nan"), float("inf")])
def test_an_impossible_side_of_a_pixel_is_rejected(mpp: float) -> None:
    with pytest.raises(DataError, match=r"give 0\.05 to 20 micrometres a pixel"):
        check_mpp(mpp)
