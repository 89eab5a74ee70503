"""An export is compared on patches of the training shards, or of a source that the user names."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.rows import ALL
from raysearch.data.shards.shard_manifest import TileSettings
from raysearch.data.shards.sharding import write_shards
from raysearch.errors import DataError, StudyError
from raysearch.inference.check_patches import (
    MAX_PLACES,
    PATCHES_OF_PLACE,
    example_patches,
    source_patches,
    training_patches,
)
from raysearch.inference.model_loading import load_model
from raysearch.search.study.study import Study
from support.result_studies import new_study
from support.scanned_slides import paint, write_tiff
from support.untrained_models import SIDE, untrained_model

SHAPE = (50, 50, 3)
NUM_PATCHES = MAX_PLACES * PATCHES_OF_PLACE


def contents(pixels: NDArray[np.uint8]) -> set[bytes]:
    """The pixels of each patch."""
    return {patch.tobytes() for patch in pixels}


def test_training_patches_are_spread_over_the_shards_without_the_held_out_test_set(
    champion_study: Study, many: Path
) -> None:
    patch_set = training_patches(load_model("first", "studies"))
    assert patch_set.name == f"training patches of {many}"
    assert patch_set.pixels.shape == (NUM_PATCHES, *SHAPE)
    plan = champion_study.plan
    assert plan.view.held_out
    visible, everything = (load_patches(str(many), view=view) for view in (plan.view, ALL))
    held_out = contents(everything.pixels) - contents(visible.pixels)
    assert held_out
    assert contents(patch_set.pixels) <= contents(visible.pixels)
    rows = [patch.tobytes() for patch in visible.pixels]
    numbers = [rows.index(patch.tobytes()) for patch in patch_set.pixels]
    assert numbers == sorted(numbers)
    assert (numbers[0], numbers[-1]) == (0, len(rows) - 1)


def test_other_shards_and_missing_ones_are_no_training_patches(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no folder of the study 'made' can be read"):
        training_patches(untrained_model())
    shards = tmp_path / "shards"
    write_shards("12:60:3", shards, "synthetic", workers=1)
    model = replace(untrained_model(), study=new_study(shards, tmp_path / "study").folder)
    assert len(training_patches(model).pixels) > PATCHES_OF_PLACE
    shutil.rmtree(shards)
    with pytest.raises(DataError, match="shards: no such folder"):
        training_patches(model)
    write_shards("12:60:4", shards, "synthetic", workers=1)
    with pytest.raises(DataError, match="other shards than those of the study 'study'"):
        training_patches(model)


def test_slides_are_cut_into_tiles_of_the_resolution_of_the_model(tmp_path: Path) -> None:
    pixels = paint((320, 240), [[(0, 0), (320, 0), (320, 240), (0, 240)]], [])
    write_tiff(tmp_path / "a.svs", pixels, 0.25, levels=1)
    shape = (SIDE, SIDE, 3)
    tiles = source_patches(str(tmp_path), shape, TileSettings(0.25, 0, 0.5))
    columns, rows = 320 // SIDE, 240 // SIDE
    assert len(tiles.pixels) == min(NUM_PATCHES, columns * rows)
    drawn = pixels[: rows * SIDE, : columns * SIDE].reshape(rows, SIDE, columns, SIDE, 3)
    assert contents(tiles.pixels) <= contents(drawn.swapaxes(1, 2).reshape(-1, *shape))
    with pytest.raises(DataError, match="the model does not say the size of the pixels"):
        source_patches(str(tmp_path), shape)


def test_patches_of_a_source_are_those_that_predict_reads(
    image_folders: Path, shards: Path
) -> None:
    from_images = source_patches(str(image_folders / "plain"), SHAPE)
    assert from_images.name == f"patches of {image_folders / 'plain'}"
    written = load_patches(str(image_folders / "shards"))
    assert contents(from_images.pixels) == contents(written.pixels)
    from_shards = source_patches(str(shards), SHAPE)
    assert contents(from_shards.pixels) <= contents(load_patches(str(shards)).pixels)
    # The synthetic shards have one row group.
    assert len(from_shards.pixels) == NUM_PATCHES


def test_a_source_without_a_readable_image_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="none of the images could be decoded") as error:
        source_patches(str(tmp_path), SHAPE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(8, 8, 3), (24, 60, 3)])
def test_synthetic_patches_have_tissue_noise_black_and_white(shape: tuple[int, int, int]) -> None:
    pixels = example_patches(shape).pixels
    assert pixels.shape[1:] == shape
    assert (pixels[-2].max(), pixels[-1].min()) == (0, 255)
    assert len(contents(pixels)) == len(pixels)
