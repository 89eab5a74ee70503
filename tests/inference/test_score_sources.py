"""Sources of patches: shards and images give the same patches in batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raysearch.data.shards.sharding import write_shards
from raysearch.data.sources.listing import SourceOptions
from raysearch.errors import DataError
from raysearch.inference.score_sources import Source, open_source
from support.tiff_files import tiff_bytes

SHAPE = (50, 50, 3)


def patches_by_name(source: Source) -> dict[str, tuple[bytes, str | None, str]]:
    """Return pixels, label and patient of each patch."""
    return {
        item.file: (pixels.tobytes(), label, item.patient)
        for number in range(source.num_batches)
        for batch in [source.read(number)]
        for item, label, pixels in zip(batch.items, batch.labels, batch.pixels, strict=True)
    }


def test_shards_have_the_patches_of_their_images(image_folders: Path, tmp_path: Path) -> None:
    images = str(image_folders / "idc")
    write_shards(images, tmp_path / "shards", "idc", workers=1)
    from_images = open_source(images, None, "label", SHAPE, SourceOptions(scratch=tmp_path))
    from_shards = open_source(
        str(tmp_path / "shards"), None, "label", SHAPE, SourceOptions(scratch=tmp_path)
    )
    assert patches_by_name(from_images) == patches_by_name(from_shards)
    assert [rejected.file for rejected in from_images.rejected] == ["note.txt"]


def test_images_of_16_bits_are_scaled_by_the_declared_depth_or_rejected(tmp_path: Path) -> None:
    patch = np.random.default_rng(1).integers(0, 256, (50, 50, 3)).astype(np.uint8)
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(patch).save(images / "flat.png")
    (images / "deep.tif").write_bytes(tiff_bytes(patch.astype(np.uint16) * 16))
    options = SourceOptions(scratch=tmp_path)
    source = open_source(str(images), None, "label", SHAPE, options)
    ((rejected,),) = (source.read(number).rejected for number in range(source.num_batches))
    assert rejected.file == "deep.tif"
    assert "declare how many are used with `--depth`" in rejected.reason
    scaled = open_source(str(images), None, "label", SHAPE, replace(options, depth=12))
    assert scaled.fingerprint != source.fingerprint
    assert sorted(patches_by_name(scaled)) == ["deep.tif", "flat.png"]
    deep = np.frombuffer(patches_by_name(scaled)["deep.tif"][0], np.uint8)
    assert np.abs(deep.astype(int) - patch.ravel()).max() <= 1
    with pytest.raises(DataError, match="--depth 17: not a number of bits"):
        open_source(str(images), None, "label", SHAPE, replace(options, depth=17))


def test_a_batch_can_be_read_again(
    image_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysearch.inference.score_sources.BATCH_SIZE", 25)
    source = open_source(
        str(image_folders / "plain"), None, "label", SHAPE, SourceOptions(scratch=tmp_path)
    )
    assert source.num_batches == 3
    first, second = source.read(2), source.read(2)
    assert len(first.items) == 10
    assert first.labels == [None] * 10
    assert np.array_equal(first.pixels, second.pixels)


def test_a_synthetic_source_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a synthetic source has no files to score"):
        open_source("4:40:2", "synthetic", "label", SHAPE, SourceOptions(scratch=tmp_path))
