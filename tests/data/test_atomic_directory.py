"""A directory is written completely or not at all."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from raysearch.data.atomic_directory import atomic_directory
from raysearch.data.shards.sharding import write_shards
from raysearch.data.shards.unfinished_shards import STATE_FILE, has_finished_shards
from raysearch.errors import DataError


def test_the_temporary_directory_of_a_running_process_is_not_removed(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "out") as first:
        (first / "rows").write_text("1")
        with atomic_directory(tmp_path / "out") as second:
            (second / "rows").write_text("2")
        assert (first / "rows").exists()
        (tmp_path / "out" / "rows").unlink()  # so that the first can be renamed to it
    assert (tmp_path / "out" / "rows").read_text() == "1"


def test_an_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="already exists"):
        write_shards("4:40:1", tmp_path / "out", "synthetic", workers=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_out_that_cannot_be_created_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"cannot be written .Not a directory"):
        write_shards("4:40:1", tmp_path / "file" / "out", "synthetic", workers=1)


def interrupt(out: Path, file: str, error: BaseException | None = None) -> None:
    """Write a file to the directory `out`, and interrupt that; one with the file `kept` is kept."""
    with atomic_directory(out, lambda folder: (folder / "kept").exists()) as partial:
        (partial / file).touch()
        raise error or KeyboardInterrupt


def test_an_interrupted_directory_is_left_to_the_next_call_if_it_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        interrupt(out, "other")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyboardInterrupt):
        interrupt(out, "kept")
    assert [path.name for path in tmp_path.iterdir()] == [".out.unfinished"]
    with atomic_directory(out, lambda _folder: True) as first:
        assert (first / "kept").exists()
        with atomic_directory(out, lambda _folder: True) as second:
            assert not (second / "kept").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (out / "kept").exists()


def test_an_error_keeps_what_can_be_continued_unless_the_disk_is_full(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        interrupt(out, "kept")
    with pytest.raises(DataError, match="a wrong name"):
        interrupt(out, "other", DataError("a wrong name"))
    assert (tmp_path / ".out.unfinished" / "kept").exists()
    with pytest.raises(DataError, match="No space left"):
        interrupt(out, "other", OSError(errno.ENOSPC, "x"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "link", "link to nothing"])
def test_a_planted_name_of_the_unfinished_directory_is_not_used(tmp_path: Path, kind: str) -> None:
    planted, other = tmp_path / ".out.unfinished", tmp_path / "other"
    if kind == "file":
        planted.touch()
    else:
        planted.symlink_to(other)
    if kind == "link":
        other.mkdir()
    with atomic_directory(tmp_path / "out", has_finished_shards) as partial:
        (partial / "rows").touch()
    assert (tmp_path / "out" / "rows").exists()
    assert not (other / "rows").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another account")
def test_the_closed_unfinished_directory_of_another_account_is_not_used() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o1777)
        foreign = folder / ".out.unfinished"
        foreign.mkdir(mode=0o700)
        (foreign / STATE_FILE).touch()
        os.seteuid(65534)
        try:
            with atomic_directory(folder / "out", has_finished_shards) as partial:
                (partial / "rows").touch()
            assert not has_finished_shards(foreign)
        finally:
            os.seteuid(0)
        assert (folder / "out" / "rows").exists()
        assert (foreign / STATE_FILE).exists()
