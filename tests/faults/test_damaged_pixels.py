"""A damaged pixel file is not trained on, also if the processes of a node share its check."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from raysearch.data import cache_folder
from raysearch.data.cache_folder import checked_file, content_hash, has_content_hash
from raysearch.data.shards import patches
from raysearch.data.shards.patches import load_patches
from raysearch.errors import DataError
from support.mutations import mutate_bytes


def pixel_file(cache: Path) -> Path:
    (path,) = (cache / "pixels").glob("*.npy")
    return path


@pytest.mark.parametrize("is_shared", [False, True])
def test_no_mutation_of_the_pixel_file_is_read(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_shared: bool
) -> None:
    if is_shared:
        monkeypatch.setattr(cache_folder, "SHARED_CHECK_BYTES", 0)
    expected = np.array(load_patches(str(shards), tmp_path).pixels)
    path = pixel_file(tmp_path)
    content = path.read_bytes()
    assert checked_file(path).exists() == is_shared
    for number in range(40):
        mutated = mutate_bytes(content, np.random.default_rng(number))
        path.write_bytes(mutated)
        os.utime(path, ns=(number, number))  # a new process, later than the last one
        monkeypatch.setattr(patches, "_CHECKED", set())
        if mutated == content:
            assert np.array_equal(load_patches(str(shards), tmp_path).pixels, expected)
        else:
            with pytest.raises(DataError, match="damaged; remove it, and start again"):
                load_patches(str(shards), tmp_path)


def test_the_processes_of_a_node_share_the_check_of_a_large_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_folder, "SHARED_CHECK_BYTES", 0)
    hashed: list[Path] = []

    def counting_hash(path: Path) -> str:
        hashed.append(path)
        return content_hash(path)

    monkeypatch.setattr(cache_folder, "content_hash", counting_hash)
    path = tmp_path / "pixels.npy"
    path.write_bytes(b"pixels" * 1000)
    sha256 = content_hash(path)
    for _ in range(3):
        assert has_content_hash(path, sha256)
    assert len(hashed) == 1
    assert not has_content_hash(path, "00")
    path.touch()  # its content may be another
    assert has_content_hash(path, sha256)
    assert len(hashed) == 3
    checked = checked_file(path)
    for number in range(20):  # no mutation of the shared result is believed
        checked.write_bytes(mutate_bytes(checked.read_bytes(), np.random.default_rng(number)))
        assert has_content_hash(path, sha256)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3601.0)
    num_hashed = len(hashed)
    assert has_content_hash(path, sha256)
    assert len(hashed) == num_hashed + 1


def test_nodes_that_share_a_cache_do_not_replace_each_others_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_folder, "SHARED_CHECK_BYTES", 0)
    path, hashed = tmp_path / "pixels.npy", []
    path.write_bytes(b"pixels" * 1000)
    sha256 = content_hash(path)

    def counting_hash(path: Path) -> str:
        hashed.append(path)
        return content_hash(path)

    monkeypatch.setattr(cache_folder, "content_hash", counting_hash)
    nodes = [tmp_path / name for name in ("0a1b-1", "0a1b-2")]
    for node in nodes:
        node.write_text(f"{node.name}\n")
    for node in nodes * 3:
        monkeypatch.setattr(cache_folder, "BOOT_ID", node)
        assert has_content_hash(path, sha256)
    assert len(hashed) == 2
    first, second = (tmp_path / f"pixels.npy.{node.name}.checked" for node in nodes)
    os.utime(first, (1, 1))  # of a node that is gone
    second.unlink()
    assert has_content_hash(path, sha256)
    assert [path.name for path in tmp_path.glob("*.checked")] == [second.name]
