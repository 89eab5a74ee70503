"""PatchCamelyon in the official layout is read pixel by pixel, with its slides."""

import gzip
from pathlib import Path

import pytest

from raysearch.data.images import expansion
from raysearch.data.images.expansion import ExpansionLimit
from raysearch.data.sources.pcam import site_of_slide, split_of_slide
from raysearch.errors import DataError
from support.pcam_files import PREFIX, SLIDES, write_pcam
from support.source_images import rejections, shard_columns, shard_source


@pytest.mark.parametrize("gzipped", [False, True])
def test_the_official_layout_is_read_pixel_by_pixel(tmp_path: Path, gzipped: bool) -> None:
    source = tmp_path / "pcam"
    images = {split: write_pcam(source, split, chunks=(2, 96, 96, 3)) for split in SLIDES}
    if gzipped:
        for path in list(source.glob("*.h5")):
            with gzip.open(f"{path}.gz", "wb") as out:
                out.write(path.read_bytes())
            path.unlink()
    manifest = shard_source(source, tmp_path)
    assert (manifest.format, manifest.rows, manifest.rejected) == ("pcam", 18, 0)
    assert manifest.warnings == ()
    columns = shard_columns(
        tmp_path, "source", "patient", "site", "split", "label", "x", "y", "pixels"
    )
    for number, file in enumerate(columns["source"]):
        split = next(split for split in SLIDES if split in file)
        row = int(file.rpartition("#")[2])
        assert columns["pixels"][number] == images[split][row].tobytes()
        assert columns["patient"][number] == SLIDES[split][row % 2]
        assert columns["split"][number] == split
        assert (columns["x"][number], columns["y"][number]) == (row * 192, row * 96)
        assert columns["label"][number] == row % 2
    sites = dict(zip(columns["patient"], columns["site"], strict=True))
    assert sites == {
        SLIDES["train"][0]: "RUMC",
        SLIDES["train"][1]: "UMCU",
        SLIDES["valid"][0]: "UMCU",
        SLIDES["valid"][1]: "RUMC",
        SLIDES["test"][0]: "",
        SLIDES["test"][1]: "",
    }
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == []


def test_the_slides_distinguish_swapped_files_of_valid_and_test(tmp_path: Path) -> None:
    source = tmp_path / "pcam"
    write_pcam(source, "valid")
    write_pcam(source, "test")
    for kind in ("x.h5", "y.h5", "meta.csv"):
        valid, test = (source / f"{PREFIX}{split}_{kind}" for split in ("valid", "test"))
        valid.rename(source / "temporary")
        test.rename(valid)
        (source / "temporary").rename(test)
    shard_source(source, tmp_path)
    columns = shard_columns(tmp_path, "patient", "split")
    for patient, split in zip(columns["patient"], columns["split"], strict=True):
        assert split == ("test" if "_test_" in patient else "valid")
    assert split_of_slide("camelyon16_test_001", "train") == "test"
    assert site_of_slide("camelyon16_train_normal_100") == "RUMC"


def test_without_meta_files_the_manifest_warns_that_patients_are_unknown(tmp_path: Path) -> None:
    source = tmp_path / "pcam"
    write_pcam(source, "train", meta=False)
    manifest = shard_source(source, tmp_path)
    assert manifest.patients == manifest.rows == 6
    assert "no patient is known" in manifest.warnings[0]
    assert "swapped" in manifest.warnings[1]


def test_files_of_different_splits_are_rejected(tmp_path: Path) -> None:
    source = tmp_path / "pcam"
    write_pcam(source, "train")
    header, first, *lines = (source / f"{PREFIX}train_meta.csv").read_text().splitlines()
    (source / f"{PREFIX}train_meta.csv").write_text("\n".join([header, first, *lines[:-1]]))
    with pytest.raises(DataError, match="6 in x, 6 in y, 5 in meta"):
        shard_source(source, tmp_path)
    (source / f"{PREFIX}train_meta.csv").write_text("\n".join([header, *lines, first]))
    with pytest.raises(DataError, match="row 0 is 0 in y, 1 in meta"):
        shard_source(source, tmp_path)
    assert not (tmp_path / "out").exists()


def test_an_impossible_position_is_rejected(tmp_path: Path) -> None:
    source = tmp_path / "pcam"
    write_pcam(source, "train")
    meta = source / f"{PREFIX}train_meta.csv"
    meta.write_text(meta.read_text().replace("0,192,", "0,99999999999,"))
    meta.write_text(meta.read_text().replace("96,192,", "96,99999999999,"))
    with pytest.raises(DataError, match="line 3 is not"):
        shard_source(source, tmp_path)


def test_a_gzip_file_that_unpacks_to_far_more_than_its_size_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expansion, "COMPRESSED_HDF5", ExpansionLimit(20, 2**20))
    source = tmp_path / "pcam"
    for split in ("train", "valid"):
        write_pcam(source, split)
    images = source / f"{PREFIX}train_x.h5"
    images.unlink()
    with gzip.open(f"{images}.gz", "wb") as out:
        out.write(bytes(64 * 2**20))
    manifest = shard_source(source, tmp_path)
    assert manifest.rows == 6
    (reason,) = rejections(tmp_path).values()
    assert "train_x.h5.gz unpacks to more than 20 times its size" in reason
