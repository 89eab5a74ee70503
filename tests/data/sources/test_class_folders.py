"""Class folders: the classes, the patients and the official split come from the paths."""

from pathlib import Path

import pytest
from PIL import Image

from raysearch.data.shards.rows import load_rows
from raysearch.data.shards.sharding import write_shards
from raysearch.data.sources.listing import SourceOptions
from raysearch.errors import DataError
from support.source_images import rejections, shard_columns, shard_source, synthetic_patches


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Four images `case0_0.png` to `case1_3.png` in two class folders."""
    folder = tmp_path / "tissue"
    for number, image in enumerate(synthetic_patches(4, 24)):
        path = folder / ("benign" if number < 2 else "tumor") / f"case{number % 2}_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def test_without_a_pattern_each_file_is_its_own_patient_and_the_manifest_warns(
    source: Path, tmp_path: Path
) -> None:
    manifest = shard_source(source, tmp_path, "folder")
    assert manifest.patients == 4
    assert "--patient REGEX" in manifest.warnings[0]
    assert load_rows(str(tmp_path / "out")).warnings == manifest.warnings


def test_a_file_without_a_patient_is_rejected(source: Path, tmp_path: Path) -> None:
    manifest = shard_source(source, tmp_path, "folder", patient=r"case0")
    assert (manifest.rows, manifest.rejected) == (2, 2)
    assert set(rejections(tmp_path).values()) == {"no patient in its path by --patient"}
    options = SourceOptions(patient="(")
    with pytest.raises(DataError, match="no regular expression"):
        write_shards(str(source), tmp_path / "two", "folder", options=options)


def test_an_empty_patient_is_rejected(source: Path, tmp_path: Path) -> None:
    manifest = shard_source(source, tmp_path, "folder", patient=r"case(0?)")
    assert (manifest.rows, manifest.rejected) == (2, 2)
    options = SourceOptions(patient=r"(no)?")
    with pytest.raises(DataError, match="no patient in its path by --patient"):
        write_shards(str(source), tmp_path / "two", "folder", options=options, workers=1)


def test_folders_of_an_official_split_contain_the_class_folders(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for label in ("0", "1"):
            folder = tmp_path / "pcam" / split / label
            folder.mkdir(parents=True)
            Image.fromarray(synthetic_patches(1, 24)[0]).save(folder / f"{split}.png")
    manifest = shard_source(tmp_path / "pcam", tmp_path, "folder", patient="[a-z]+")
    assert manifest.class_names == ("0", "1")
    splits = shard_columns(tmp_path, "split")["split"]
    assert sorted(splits) == ["train", "train", "valid", "valid"]
