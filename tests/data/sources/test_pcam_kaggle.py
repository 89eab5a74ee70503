"""Kaggle's PatchCamelyon gets its slides from the official files, by the pixels."""

import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from raysearch.data.shards.sharding import write_shards
from raysearch.data.sources.listing import SourceOptions
from support.pcam_files import SLIDES, write_pcam, write_pcam_kaggle
from support.source_images import rejections, shard_columns, shard_source


def test_real_patches_of_both_layouts_have_the_same_pixels_and_slides(
    shared: Path, tmp_path: Path
) -> None:
    with tarfile.open(shared / "data" / "pcam.tar") as archive:
        members = [entry for entry in archive if "/train/" in entry.name and entry.isfile()]
        images = {}
        for member in members[:: len(members) // 400]:
            content = archive.extractfile(member)
            assert content is not None
            image = np.asarray(Image.open(content))
            images[image.tobytes()] = image  # Kaggle has no duplicates
    pixels = np.stack(list(images.values()))
    assert len(pixels) > 380
    official, kaggle = tmp_path / "official", tmp_path / "kaggle"
    write_pcam(official, "train", pixels, chunks=(8, 96, 96, 3), compression="gzip")
    ids = write_pcam_kaggle(kaggle, pixels)
    from_official = write_shards(str(official), tmp_path / "one", None)
    options = SourceOptions(official=str(official))
    from_kaggle = write_shards(str(kaggle), tmp_path / "two", None, options=options)
    assert (from_official.format, from_official.rows) == ("pcam", len(pixels))
    assert (from_kaggle.format, from_kaggle.rows) == ("pcam-kaggle", len(pixels))
    for out in ("one", "two"):
        columns = pq.read_table(tmp_path / out / "part-00000.parquet").to_pydict()
        rows = [
            int(file.rpartition("#")[2]) if out == "one" else ids.index(Path(file).stem)
            for file in columns["source"]
        ]
        assert sorted(rows) == list(range(len(pixels)))
        assert columns["pixels"] == [pixels[row].tobytes() for row in rows]
        assert columns["slide"] == [SLIDES["train"][row % 2] for row in rows]
        assert columns["label"] == [row % 2 for row in rows]


def test_patches_get_their_slides_by_their_pixels(tmp_path: Path) -> None:
    official, source = tmp_path / "official", tmp_path / "kaggle"
    images = write_pcam(official, "train")
    ids = write_pcam_kaggle(source, images)
    (source / "train" / "notes.tif").write_bytes(b"")
    with (source / "train_labels.csv").open("a") as file:
        file.write(f"{'0' * 40},1\n")
    without_official = write_shards(str(source), tmp_path / "without", None, workers=1)
    assert (without_official.format, without_official.patients) == ("pcam-kaggle", 6)
    assert "--official" in without_official.warnings[0]
    manifest = shard_source(source, tmp_path, official=str(official))
    assert (manifest.rows, manifest.patients, manifest.rejected) == (6, 2, 2)
    columns = shard_columns(tmp_path, "source", "slide", "site", "pixels", "label")
    for number, name in enumerate(columns["source"]):
        row = ids.index(Path(name).stem)
        assert columns["slide"][number] == SLIDES["train"][row % 2]
        assert columns["pixels"][number] == images[row].tobytes()
        assert columns["label"][number] == row % 2
    assert rejections(tmp_path) == {
        "train/notes.tif": "not named ID.tif",
        f"train/{'0' * 40}.tif": "in train_labels.csv, but missing",
    }
