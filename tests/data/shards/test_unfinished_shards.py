"""An interrupted sharding continues, with the shards of an uninterrupted one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from raysearch.data.atomic_directory import unfinished_path
from raysearch.data.pseudonyms import PseudonymKey, read_key_file
from raysearch.data.shards import shard_writer, sharding
from raysearch.data.shards.shard_manifest import Manifest
from raysearch.data.shards.sharding import write_shards
from raysearch.data.shards.source_names import SourceNames
from raysearch.data.shards.unfinished_shards import (
    STATE_FILE,
    has_finished_shards,
    sharding_request,
)
from raysearch.data.sources import list_source
from raysearch.data.sources.listing import SourceOptions
from raysearch.data.step_progress import StepProgress
from raysearch.errors import DataError
from support.source_images import noise_patch, png_bytes, write_idc_file

NUM_SHARDS = 4


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source of 16 images, one of them damaged, that gives shards of four rows."""
    monkeypatch.setattr(sharding, "MAX_CHUNK_ROWS", 2)
    monkeypatch.setattr(sharding, "ROW_GROUP_BYTES", 2 * 50 * 50 * 3)
    for module in (sharding, shard_writer):
        monkeypatch.setattr(module, "ROW_GROUPS_PER_SHARD", 2)
    folder = tmp_path / "idc"
    for number in range(16):
        content = b"damaged" if number == 1 else png_bytes(noise_patch(number))
        write_idc_file(folder, f"88{number // 4:02d}", number % 2, 1 + 50 * number, 1, content)
    return folder


def shard(
    source: Path, out: Path, progress: Callable[[StepProgress], None], key: PseudonymKey | None
) -> Manifest:
    return write_shards(
        str(source), out, "idc", names=SourceNames(key), progress=progress, workers=1
    )


def interrupt(source: Path, out: Path, num_shards: int, key: PseudonymKey | None = None) -> None:
    """Shard `source`; the sharding is interrupted once that many shards are finished."""

    def raise_if_finished(_progress: StepProgress) -> None:
        if (unfinished_path(out) / f"part-{num_shards - 1:05d}.parquet").exists() and (
            unfinished_path(out) / STATE_FILE
        ).exists():
            state = (unfinished_path(out) / STATE_FILE).read_text()
            if f"part-{num_shards - 1:05d}" in state:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shard(source, out, raise_if_finished, key)
    assert not out.exists()


@pytest.mark.parametrize("has_key", [False, True])
def test_the_shards_are_those_of_an_uninterrupted_sharding(
    source: Path, tmp_path: Path, has_key: bool
) -> None:
    key = read_key_file(tmp_path / "key") if has_key else None
    out = tmp_path / "out"
    uninterrupted = shard(source, tmp_path / "whole", lambda _progress: None, key)
    assert len(uninterrupted.shards) == NUM_SHARDS
    interrupt(source, out, 1, key)
    interrupt(source, out, 2, key)
    reports: list[StepProgress] = []
    assert shard(source, out, reports.append, key) == uninterrupted
    assert {(report.unit, report.total) for report in reports if report.step == "Sharding"} == {
        ("patches", 16)
    }
    assert next(report.done for report in reports if report.step == "Sharding") == 8
    assert reports[-1].step == "Writing the manifest"
    for path in (tmp_path / "whole").iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()
    assert {path.name for path in out.iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    }
    assert not unfinished_path(out).exists()


@pytest.mark.parametrize("change", ["source", "size", "shard", "state"])
def test_shards_of_a_changed_source_or_of_other_options_and_damaged_ones_are_not_continued(
    source: Path, tmp_path: Path, change: str
) -> None:
    out, size = tmp_path / "out", None
    interrupt(source, out, 2)
    if change == "source":
        path = next(source.rglob("*.png"))
        os.utime(path, (1, 1))
    elif change == "size":
        size = (50, 49)
    else:
        name = STATE_FILE if change == "state" else "part-00001.parquet"
        path = unfinished_path(out) / name
        path.write_bytes(path.read_bytes()[:-1])
    reports: list[StepProgress] = []
    manifest = write_shards(str(source), out, "idc", size=size, progress=reports.append, workers=1)
    assert manifest.rows == 15
    assert next(report.done for report in reports if report.step == "Sharding") < 8
    assert len(list(out.iterdir())) == NUM_SHARDS + 2


def test_an_error_keeps_the_finished_shards(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def fail(progress: StepProgress) -> None:
        if progress.step == "Sharding" and progress.done >= 12:  # a shard is closed
            raise DataError("x")

    with pytest.raises(DataError):
        shard(source, out, fail, None)
    with pytest.raises(DataError, match="no such folder"):
        shard(tmp_path / "typo", out, lambda _progress: None, None)
    assert has_finished_shards(unfinished_path(out))


def request(source: Path, scratch: Path, root: Path | None = None) -> str:
    scratch.mkdir()
    options = SourceOptions(scratch=scratch, root=None if root is None else str(root))
    return sharding_request(
        str(source), list_source(str(source), None, options)[1], (50, 50), [], scratch
    )


def test_the_request_of_a_csv_file_has_its_root_and_the_states_of_its_images(
    source: Path, tmp_path: Path
) -> None:
    table, copy = tmp_path / "list.csv", tmp_path / "copy"
    names = sorted(str(path.relative_to(source)) for path in source.rglob("*.png"))
    rows = [f"{name},{number % 2},{name[:4]}" for number, name in enumerate(names)]
    table.write_text("\n".join(["path,label,patient", *rows]))
    shutil.copytree(source, copy)  # with the times of the files
    first = request(table, tmp_path / "1", source)
    assert request(table, tmp_path / "2", source) == first
    assert request(table, tmp_path / "3", copy) != first
    os.utime(source / names[0], (1, 1))
    assert request(table, tmp_path / "4", source) != first


def test_the_request_of_an_archive_has_the_state_of_the_archive(
    source: Path, tmp_path: Path
) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "idc"), "zip", source))
    first = request(archive, tmp_path / "1")
    assert request(archive, tmp_path / "2") == first
    os.utime(archive, (1, 1))
    assert request(archive, tmp_path / "3") != first


def test_an_interrupted_sharding_keeps_no_unpacked_files(source: Path, tmp_path: Path) -> None:
    archive, out = Path(shutil.make_archive(str(tmp_path / "idc"), "zip", source)), tmp_path / "out"
    interrupt(archive, out, 1)
    names = {path.name for path in unfinished_path(out).iterdir()}
    assert names == {STATE_FILE, "part-00000.parquet"}
