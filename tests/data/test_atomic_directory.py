"""A directory is written completely or not at all."""

from pathlib import Path

import pytest

from raysearch.data.atomic_directory import atomic_directory
from raysearch.data.shards.sharding import write_shards
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
