"""Arrays of an unfinished command: only undamaged ones of the same identity are read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from raysearch.data.array_cache import ArrayCache


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArrayCache:
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    return ArrayCache("audit", "shards", "label")


def test_a_damaged_file_and_one_of_another_identity_are_not_read(cache: ArrayCache) -> None:
    assert cache.read("features-0") is None
    cache.write("features-0", {"values": np.arange(3)})
    stored = cache.read("features-0")
    assert stored is not None
    assert stored["values"].tolist() == [0, 1, 2]
    assert cache.read("features-1") is None
    assert ArrayCache("audit", "shards", "subtype").read("features-0") is None
    (path,) = cache.folder.iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    assert cache.read("features-0") is None


def test_arrays_that_nobody_continued_are_removed_by_a_later_command(cache: ArrayCache) -> None:
    cache.write("features-0", {"values": np.arange(3)})
    recent = ArrayCache("audit", "other shards")
    recent.write("features-0", {"values": np.arange(3)})
    os.utime(cache.folder, (1, 1))
    ArrayCache("audit", "new shards").write("features-0", {"values": np.arange(3)})
    assert not cache.folder.exists()
    assert recent.read("features-0") is not None
    recent.remove()
    assert not recent.folder.exists()


def test_a_cache_that_cannot_be_written_to_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "file"))
    cache = ArrayCache("audit", "shards")
    cache.write("features-0", {"values": np.arange(3)})
    assert cache.read("features-0") is None


def test_files_that_another_account_may_have_planted_are_not_read(cache: ArrayCache) -> None:
    cache.write("features-0", {"values": np.arange(3)})
    cache.folder.chmod(0o777)
    assert cache.read("features-0") is None
    cache.folder.chmod(0o700)
    assert cache.read("features-0") is not None
    os.mkfifo(cache.folder / "features-1")
    assert cache.read("features-1") is None  # at once
