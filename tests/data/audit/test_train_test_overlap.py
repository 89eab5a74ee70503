"""The overlap of two sets: pixels prove it, file names and patches of a single color do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raysearch.data.audit.train_test_overlap import (
    PixelMatch,
    common_patients,
    matches_text,
    pixel_matches,
    read_origins,
)
from raysearch.data.shards.rows import View
from raysearch.data.shards.sharding import write_shards
from raysearch.data.sources.listing import SourceOptions
from support.slide_files import slide_shards

WHITE = np.full((32, 32, 3), 255, np.uint8)


def random_image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3)).astype(np.uint8)


def write_set(folder: Path, images: dict[str, np.ndarray], patient: str | None = None) -> str:
    """Write images as PNG files and shard them; return the address of the shards."""
    for name, image in images.items():
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    out = folder / "shards"
    options = SourceOptions(patient=patient)
    write_shards(str(folder / "images"), out, "folder", options=options, workers=1)
    return str(out)


@pytest.fixture
def two_sets(tmp_path: Path) -> tuple[str, str]:
    """Two sets with the same file names, a white tile each, and one patch in common."""
    common = random_image(99)
    first = {f"{label}/{n}.png": random_image(n) for label in "ab" for n in range(3)}
    second = {f"{label}/{n}.png": random_image(10 + n) for label in "ab" for n in range(3)}
    first |= {"a/blank.png": WHITE, "a/copy.png": common}
    second |= {"a/blank.png": WHITE, "b/original.png": common}
    return write_set(tmp_path / "first", first), write_set(tmp_path / "second", second)


def test_only_textured_patches_with_the_same_pixels_match(two_sets: tuple[str, str]) -> None:
    first, second = map(read_origins, two_sets)
    assert pixel_matches(first, second) == [PixelMatch("a/copy.png", "b/original.png")]
    assert pixel_matches(second, first) == [PixelMatch("b/original.png", "a/copy.png")]
    everything = pixel_matches(first, first)
    assert len(everything) == 7
    assert all(match.file != "a/blank.png" for match in everything)


def test_a_file_name_is_no_patient(two_sets: tuple[str, str]) -> None:
    first, second = map(read_origins, two_sets)
    assert common_patients(first, second) == []
    assert common_patients(first, first) == []


def test_known_patients_are_compared_by_name(tmp_path: Path) -> None:
    names = {f"{label}/P{n}_0.png": random_image(n) for label in "ab" for n in range(3)}
    others = {f"{label}/P{n}_1.png": random_image(20 + n) for label in "ab" for n in range(2, 5)}
    first = read_origins(write_set(tmp_path / "one", names, r"P\d+"))
    second = read_origins(write_set(tmp_path / "two", others, r"P\d+"))
    assert common_patients(first, second) == ["P2"]


def test_a_view_hides_rows_and_keeps_their_numbers(tmp_path: Path) -> None:
    images = {f"a/P{n}.png": random_image(n) for n in range(3)}
    images |= {"b/P3.png": random_image(1)}
    shards = write_set(tmp_path, images, r"P\d+")
    hidden = read_origins(shards, View(held_out=("P0", "P3")))
    rest = read_origins(shards, View(held_out=("P1", "P2")))
    assert hidden.row_numbers.tolist() == [1, 2]
    assert rest.row_numbers.tolist() == [0, 3]
    assert pixel_matches(rest, hidden) == [PixelMatch("b/P3.png", "a/P1.png")]


def test_the_text_names_the_first_matches() -> None:
    matches = [PixelMatch(f"{n}.png", "x.png") for n in range(5)]
    assert matches_text(matches[:1]) == "'0.png' is 'x.png'"
    assert matches_text(matches) == (
        "'0.png' is 'x.png', '1.png' is 'x.png', '2.png' is 'x.png', ..."
    )


def test_slides_with_the_same_features_match(tmp_path: Path) -> None:
    first = slide_shards(tmp_path / "first", 4)
    same, other = slide_shards(tmp_path / "same", 3), slide_shards(tmp_path / "other", 3, seed=1)
    names = [f"s{number:03d}.h5" for number in range(3)]
    matches = pixel_matches(read_origins(str(same)), read_origins(str(first)))
    assert matches == [PixelMatch(name, name) for name in names]
    assert pixel_matches(read_origins(str(other)), read_origins(str(first))) == []
