"""The tiles of slides that a model scores are cut as those of its training set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raysearch.data.shards.shard_manifest import TileSettings
from raysearch.data.slides.slide_options import slide_options
from raysearch.data.sources.listing import SourceOptions
from raysearch.errors import DataError
from raysearch.inference import tile_source
from raysearch.inference.score_sources import open_source
from raysearch.inference.tile_source import TileSource, open_tiles
from support.scanned_slides import Pixels, Ring, paint, write_tiff

SHAPE = (40, 40, 3)
SETTINGS = TileSettings(mpp=0.5, overlap=0, min_tissue=0.5)
OPTIONS = SourceOptions()
LEFT: Ring = [(0, 0), (400, 0), (400, 480), (0, 480)]


@pytest.fixture(scope="module")
def slide_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pixels]:
    """A folder with a slide, whose left half is tissue, and its pixels at .25 micrometres."""
    folder = tmp_path_factory.mktemp("slides")
    pixels = paint((800, 480), [LEFT], [], 3)
    write_tiff(folder / "a.svs", pixels, 0.25)
    return folder, pixels


def reduced(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    blocks = pixels.reshape(height // 2, 2, width // 2, 2, 3)
    return np.asarray(blocks.mean((1, 3)).round(), np.uint8)


def open_in(folder: Path, **values: float) -> TileSource:
    options = replace(OPTIONS, slides=slide_options(values))
    return open_tiles(str(folder), SHAPE, options, SETTINGS)


def test_tiles_have_the_pixels_of_the_slide_at_the_resolution_of_the_training_set(
    slide_folder: tuple[Path, Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, pixels = slide_folder
    monkeypatch.setattr(tile_source, "BATCH_BYTES", 7 * 40 * 40 * 3)
    source = open_source(str(folder), None, "label", SHAPE, OPTIONS, SETTINGS)
    assert isinstance(source, TileSource)
    expected = reduced(pixels)
    positions = []
    for number in range(source.num_batches):
        batch = source.read(number)
        assert len(batch.items) == source.num_rows(number) <= 7
        for item, patch in zip(batch.items, np.asarray(batch.inputs), strict=True):
            assert item.x is not None
            assert item.y is not None
            x, y = item.x // 2, item.y // 2
            assert np.array_equal(patch.reshape(SHAPE), expected[y : y + 40, x : x + 40])
            assert item.file == f"a.svs#x={item.x},y={item.y},w=80,h=80"
            positions.append((item.y, item.x))
    assert positions == [(y, x) for y in range(0, 480, 80) for x in range(0, 400, 80)]


def test_overlap_and_tissue_are_those_of_the_training_set(
    slide_folder: tuple[Path, Pixels],
) -> None:
    folder, _pixels = slide_folder
    settings = TileSettings(mpp=0.5, overlap=20, min_tissue=0.0)
    source = open_tiles(str(folder), SHAPE, OPTIONS, settings)
    assert len(source.items) == 19 * 11
    assert source.fingerprint != open_in(folder).fingerprint
    assert source.fingerprint == open_tiles(str(folder), SHAPE, OPTIONS, settings).fingerprint


def test_a_model_that_does_not_say_its_resolution_needs_the_option(
    slide_folder: tuple[Path, Pixels],
) -> None:
    folder = str(slide_folder[0])
    with pytest.raises(DataError, match=r"the model does not say the size of the pixels .* --mpp"):
        open_tiles(folder, SHAPE, OPTIONS, None)
    options = replace(OPTIONS, slides=slide_options({"mpp": 0.5}))
    source = open_tiles(folder, SHAPE, options, None)
    assert len(source.items) == 5 * 6
    assert open_tiles(folder, SHAPE, options, SETTINGS).items == source.items


@pytest.mark.parametrize(
    ("shape", "values", "reason"),
    [
        (SHAPE, {"mpp": 0.4}, "--mpp 0.4: the model was trained on tiles of 0.5 micrometres"),
        (SHAPE, {"assumed_mpp": 0.0}, "--assume-mpp 0: give 0.05 to 20"),
        ((30, 16, 1), {}, "a folder of slides, and the model takes their features; cut the"),
        ((900, 900, 3), {}, "no slide can be used; a.svs: 800 x 480 pixels, smaller than a tile"),
    ],
)
def test_slides_that_do_not_fit_the_model_are_rejected_in_one_line(
    slide_folder: tuple[Path, Pixels],
    shape: tuple[int, int, int],
    values: dict[str, float],
    reason: str,
) -> None:
    options = replace(OPTIONS, slides=slide_options(values))
    with pytest.raises(DataError, match=reason) as error:
        open_source(str(slide_folder[0]), None, "label", shape, options, SETTINGS)
    assert "\n" not in str(error.value)


def test_options_of_slides_and_of_images_are_not_mixed(
    slide_folder: tuple[Path, Pixels], image_folders: Path, tmp_path: Path
) -> None:
    options = replace(OPTIONS, scratch=tmp_path, slides=slide_options({"mpp": 0.5}))
    with pytest.raises(DataError, match="--mpp: has no effect with format"):
        open_source(str(image_folders / "idc"), None, "label", (50, 50, 3), options, SETTINGS)
    with pytest.raises(DataError, match="--depth: has no effect with format slides"):
        open_tiles(str(slide_folder[0]), SHAPE, replace(OPTIONS, depth=12), SETTINGS)


def test_a_slide_without_a_resolution_needs_an_assumed_one(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tiff", paint((400, 480), [LEFT], []), None)
    with pytest.raises(DataError, match="does not say the size of its pixels; give --assume"):
        open_in(tmp_path)
    assert len(open_in(tmp_path, assumed_mpp=0.25).items) == 5 * 6


def test_the_tiles_of_a_slide_that_breaks_are_rejected_by_name(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tiff", paint((400, 480), [LEFT], []), 0.25)
    write_tiff(tmp_path / "b.tiff", paint((400, 480), [LEFT], []), 0.25)
    source = open_in(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    broken, whole = source.read(0), source.read(1)
    assert not broken.items
    assert np.asarray(broken.inputs).shape == (0, 40 * 40 * 3)
    assert {rejected.file.partition("#")[0] for rejected in broken.rejected} == {"a.tiff"}
    assert len(broken.rejected) == len(whole.items) == 30
    path.unlink()
    with pytest.raises(DataError, match=r"a\.tiff: "):
        source.read(0)
