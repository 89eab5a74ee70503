"""Sources of patches: shards and images give the same patches in batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from raysearch.data.shards.bags import Bags
from raysearch.data.shards.sharding import write_shards
from raysearch.data.sources.listing import SourceOptions
from raysearch.errors import DataError
from raysearch.inference.score_batches import Batch, Source
from raysearch.inference.score_sources import open_source
from raysearch.models.bags.slide_feature_files import read_feature_file
from support.slide_files import WIDTH, slide_shards
from support.tiff_files import tiff_bytes

SHAPE = (50, 50, 3)


def pixels_of(batch: Batch) -> NDArray[np.uint8]:
    assert not isinstance(batch.inputs, Bags)
    return batch.inputs


def patches_by_name(source: Source) -> dict[str, tuple[bytes, str | None, str]]:
    """Return pixels, label and patient of each patch."""
    return {
        item.file: (pixels.tobytes(), label, item.patient)
        for number in range(source.num_batches)
        for batch in [source.read(number)]
        for item, label, pixels in zip(batch.items, batch.labels, pixels_of(batch), strict=True)
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
    assert np.array_equal(pixels_of(first), pixels_of(second))


def test_a_synthetic_source_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a synthetic source has no files to score"):
        open_source("4:40:2", "synthetic", "label", SHAPE, SourceOptions(scratch=tmp_path))


@pytest.mark.parametrize("source_format", [None, "slides"])
def test_slides_of_scanners_need_the_resolution_of_the_training_set(
    tmp_path: Path, source_format: str | None
) -> None:
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "a.svs").write_bytes(b"not read")
    options = SourceOptions(scratch=tmp_path)
    with pytest.raises(DataError, match="does not say the size of the pixels"):
        open_source(str(tmp_path / "slides"), source_format, "label", SHAPE, options)


@pytest.mark.parametrize("kind", ["shards", "folder", "table"])
def test_slides_have_the_features_and_positions_of_their_files(tmp_path: Path, kind: str) -> None:
    shards = slide_shards(tmp_path, 20)
    files, options = tmp_path / "source" / "features", SourceOptions(scratch=tmp_path)
    addresses = {"shards": shards, "folder": files, "table": tmp_path / "source" / "labels.csv"}
    if kind == "table":
        options = replace(options, root=str(files))
    source = open_source(str(addresses[kind]), None, "label", (30, WIDTH, 1), options)
    names, labels = [], set()
    for number in range(source.num_batches):
        batch = source.read(number)
        labels.update(batch.labels)
        assert isinstance(batch.inputs, Bags)
        for index, item in enumerate(batch.items):
            slide = read_feature_file(str(files / f"{item.slide}.h5"))
            assert np.array_equal(batch.inputs[index], slide.values)
            stored = batch.positions[index]
            assert stored is not None
            assert slide.positions is not None
            assert np.array_equal(stored, slide.positions)
            names.append(item.slide)
    assert labels == ({"tumor", "normal"} if kind != "folder" else {None})
    assert sorted(names) == [f"s{number:03d}" for number in range(20)]


def test_slides_of_another_encoder_and_images_are_rejected(tmp_path: Path) -> None:
    shards, shape = slide_shards(tmp_path, 4), (30, WIDTH + 1, 1)
    files, options = str(tmp_path / "source" / "features"), SourceOptions(scratch=tmp_path)
    batch = open_source(files, None, "label", shape, options).read(0)
    assert not batch.items
    assert [rejected.reason for rejected in batch.rejected] == [
        "16 features, and the model takes 17"
    ]
    with pytest.raises(DataError, match="slides with 16 features of each patch, and the model"):
        open_source(str(shards), None, "label", shape, options)
    with pytest.raises(DataError, match=r"slides with 16 .*takes patches of 50x50 pixels"):
        open_source(str(shards), None, "label", SHAPE, options)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no files of slides in it"):
        open_source(str(tmp_path / "empty"), None, "label", shape, options)
    (tmp_path / "empty" / "table.csv").write_text("slide,label,patient\n")
    with pytest.raises(DataError, match="no slides in it; give one row for each slide"):
        open_source(str(tmp_path / "empty" / "table.csv"), None, "label", shape, options)
    with_root = replace(options, root=files)
    for address in (files, str(shards)):
        with pytest.raises(DataError, match="--root: has no effect with"):
            open_source(address, None, "label", shape, with_root)
