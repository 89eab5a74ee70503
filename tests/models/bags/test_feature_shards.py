"""Shards of bags, which are made from a CSV file of slides."""

import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysearch.data.atomic_directory import unfinished_path
from raysearch.data.files import Folder
from raysearch.data.shards.bags import read_slides
from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.rows import ALL, View
from raysearch.data.shards.shard_files import bag_values
from raysearch.data.shards.shard_manifest import read_manifest
from raysearch.data.shards.source_names import SourceNames
from raysearch.data.shards.unfinished_shards import STATE_FILE
from raysearch.data.sources.listing import SourceOptions
from raysearch.errors import DataError
from raysearch.models.bags import bag_writer, feature_shards
from raysearch.models.bags.feature_shards import shard_features
from raysearch.models.bags.slide_feature_files import SlideFeatures, read_feature_file
from support.slide_files import WIDTH, slide_shards, write_slide, write_slides

NUM_SLIDES = 9


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """The CSV file of a few slides."""
    return write_slides(tmp_path / "source", NUM_SLIDES)


def shard(table: Path, out: Path, **options: str) -> None:
    root = options.pop("root", str(table.parent / "features"))
    shard_features(str(table), out, SourceOptions(root=root), SourceNames())


def test_the_features_of_each_slide_are_those_of_its_file(tmp_path: Path) -> None:
    shards = slide_shards(tmp_path, NUM_SLIDES)
    manifest = read_manifest(Folder(shards))
    patches = load_patches(str(shards), tmp_path / "cache")
    assert manifest.is_bags
    assert manifest.shape[1:] == (WIDTH, 1)
    assert manifest.class_counts == (5, 4)
    assert len(patches.labels) == NUM_SLIDES
    slides = read_slides(str(shards), ALL, range(NUM_SLIDES))
    total = 0
    for row, name in enumerate(patches.slides):
        with h5py.File(tmp_path / "source" / "features" / f"{name}.h5") as file:
            features = np.asarray(file["features"], np.float16).reshape(-1, WIDTH)
            positions = np.asarray(file["coords"])
        assert np.array_equal(patches.bag(row), features)
        assert slides[row].slide == name
        assert np.array_equal(slides[row].features, features)
        stored_positions = slides[row].positions
        assert stored_positions is not None
        assert np.array_equal(stored_positions, positions)
        total += len(features)
    assert manifest.num_patches == len(patches.pixels) == total


def interrupted_shard(
    table: Path, out: Path, num_slides: int, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Shard the slides by two, and interrupt it after so many files; return the files it read."""
    monkeypatch.setattr(bag_writer, "ROW_GROUP_BYTES", 1)
    monkeypatch.setattr(bag_writer, "SHARD_BYTES", 2500)
    files: list[str] = []

    def read(path: str) -> SlideFeatures:
        if len(files) == num_slides:
            raise KeyboardInterrupt
        files.append(Path(path).name)
        return read_feature_file(path)

    with monkeypatch.context() as patch:
        patch.setattr(feature_shards, "read_feature_file", read)
        if num_slides < NUM_SLIDES:
            with pytest.raises(KeyboardInterrupt):
                shard(table, out)
            assert not out.exists()
        else:
            shard(table, out)
    return files


@pytest.mark.parametrize("change", ["nothing", "state", "shard", "file"])
def test_an_interrupted_command_continues_after_its_finished_shards(
    tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    interrupted_shard(table, whole, NUM_SLIDES, monkeypatch)
    num_shards = len(read_manifest(Folder(whole)).shards)
    assert 3 <= num_shards < NUM_SLIDES
    interrupted_shard(table, out, 5, monkeypatch)
    interrupted_shard(table, out, 2, monkeypatch)
    unfinished = unfinished_path(out)
    state = json.loads((unfinished / STATE_FILE).read_text())
    num_done = state["state"]["rows"]
    assert 5 <= num_done < NUM_SLIDES
    if change == "state":
        state["state"]["counts"].pop()
        (unfinished / STATE_FILE).write_text(json.dumps(state))
    elif change == "shard":
        part = unfinished / "part-00001.parquet"
        part.write_bytes(part.read_bytes()[:-1] + b"x")
    elif change == "file":
        os.utime(table.parent / "features" / "s001.h5", (1, 1))
    files = interrupted_shard(table, out, NUM_SLIDES, monkeypatch)
    assert len(files) == (NUM_SLIDES - num_done if change == "nothing" else NUM_SLIDES)
    assert not unfinished.exists()
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}
    for path in whole.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()


def test_slides_that_are_continued_are_compared_with_those_before(
    tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, features = tmp_path / "out", table.parent / "features"
    shutil.copy(features / "s000.h5", features / "s008.h5")
    interrupted_shard(table, out, 5, monkeypatch)
    with pytest.raises(DataError, match=r"s008.h5: the same features as s000.h5"):
        interrupted_shard(table, out, NUM_SLIDES, monkeypatch)


def test_a_view_leaves_out_the_slides_of_held_out_patients(tmp_path: Path) -> None:
    shards = slide_shards(tmp_path, NUM_SLIDES)
    everything = load_patches(str(shards), tmp_path / "cache")
    view = View(held_out=("p000", "p004"))
    visible = load_patches(str(shards), tmp_path / "cache", view)
    assert set(visible.patients) == set(everything.patients) - {"p000", "p004"}
    for row, slide in enumerate(visible.slides):
        (other,) = np.flatnonzero(everything.slides == slide)
        assert np.array_equal(visible.bag(row), everything.bag(int(other)))
    (last,) = read_slides(str(shards), view, [len(visible.slides) - 1]).values()
    assert last.slide == visible.slides[-1]


def test_changed_features_are_rejected(tmp_path: Path) -> None:
    shards = slide_shards(tmp_path, NUM_SLIDES)
    part = next(shards.glob("*.parquet"))
    content = bytearray(part.read_bytes())
    content[2000] ^= 1
    part.write_bytes(content)
    with pytest.raises(DataError, match="its hash is not the manifest's"):
        load_patches(str(shards), tmp_path / "cache")


def replace_line(table: Path, old: str, new: str) -> None:
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new))


def test_bad_tables_and_files_are_named_and_nothing_is_written(tmp_path: Path, table: Path) -> None:
    text, files = table.read_text(), table.parent / "features"
    rng = np.random.default_rng(1)

    def reject(match: str) -> None:
        with pytest.raises(DataError, match=match) as caught:
            shard(table, tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert {path.name for path in tmp_path.iterdir()} == {"source"}
        table.write_text(text)

    replace_line(table, "s004,", "s999,")
    reject("the slide 's999' has no file in .*features; each slide needs one file")
    replace_line(table, "s004,p004", "s003,p004")
    reject(r"s003.h5: named in lines 5, 6")
    replace_line(table, "slide_id", "name")
    reject("no column 'slide' or 'path'; its first line must be slide,label,patient")
    replace_line(table, "s004,p004", "s004,p004,more")
    reject("line 6 has not as many fields as the first|fields")
    replace_line(table, "s004,p004", ",p004")
    reject("row 5 names no slide; fill its column `slide`")
    replace_line(table, "label\n", "label,slide\n")
    reject("columns slide_id and slide are both `slide`; keep one")
    table.write_text(text.replace("s004,p004", "\ns003,p004"))
    reject("s003.h5: named in lines 5, 7")
    (files / "s002.pt").write_bytes((files / "s002.h5").read_bytes())
    reject("the slide 's002' has the files s002.h5, s002.pt")
    (files / "s002.pt").unlink()
    before = (files / "s005.h5").read_bytes()
    write_slide(files / "s005.h5", rng.normal(size=(30, WIDTH + 1)).astype(np.float32))
    reject(r"s005.h5: 17 features, and 16 in s000.h5; give slides of one encoder")
    (files / "s005.h5").write_bytes((files / "s001.h5").read_bytes())
    reject(r"s005.h5: the same features as s001.h5; remove one of them")
    (files / "s005.h5").write_bytes(before)
    table.write_text(f"\n{text}\n\n")  # blank lines do not count
    shard(table, tmp_path / "out")


def test_a_table_may_name_paths_and_the_source_must_be_a_table(tmp_path: Path, table: Path) -> None:
    lines = ["path,label,patient", *(f"s{number:03d}.h5,x,p{number}" for number in range(3))]
    table.write_text("\n".join(lines) + "\n")
    shard(table, tmp_path / "out")
    patches = load_patches(str(tmp_path / "out"), tmp_path / "cache")
    assert patches.slides.tolist() == ["s000", "s001", "s002"]
    with pytest.raises(DataError, match="format features takes a CSV file of slides"):
        shard_features(
            str(table.parent / "features"), tmp_path / "other", SourceOptions(), SourceNames()
        )


def test_features_that_are_not_finite_are_rejected_in_shards_too(tmp_path: Path) -> None:
    shards = slide_shards(tmp_path, NUM_SLIDES)
    part = next(shards.glob("*.parquet"))
    column = pq.read_table(part, columns=["pixels"]).column("pixels")
    assert len(list(bag_values(pa.table({"pixels": column}), 2 * WIDTH))) == NUM_SLIDES
    forged = np.frombuffer(column[0].as_py(), np.float16).copy()
    forged[5] = np.nan
    values = pa.array([forged.tobytes()], pa.large_binary())
    with pytest.raises(pa.ArrowInvalid, match="not finite"):
        list(bag_values(pa.table({"pixels": values}), 2 * WIDTH))
