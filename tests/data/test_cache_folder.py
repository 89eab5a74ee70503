"""Cached files lie in folders that only their owner can write to, and have a hash."""

import os
from pathlib import Path

import pytest

from raysearch.data import cache_folder
from raysearch.data.cache_folder import content_hash, keep_compiled_code_in_cache, private_folder
from raysearch.data.shards.patches import load_patches
from raysearch.errors import DataError

NOBODY = 65534


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_new_folders_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        private_folder(tmp_path / "new" / "cache" / "pixels")
    finally:
        os.umask(before)
    assert mode(tmp_path / "new" / "cache") == mode(tmp_path / "new" / "cache" / "pixels") == 0o700


def test_a_folder_that_others_can_read_is_closed(tmp_path: Path) -> None:
    (tmp_path / "cache" / "pixels").mkdir(parents=True)
    (tmp_path / "cache" / "pixels").chmod(0o755)
    (tmp_path / "cache").chmod(0o755)
    private_folder(tmp_path / "cache" / "pixels")
    assert mode(tmp_path / "cache" / "pixels") == 0o700
    assert mode(tmp_path / "cache") == 0o755  # it may be the user's own, with other files


@pytest.mark.parametrize("permissions", [0o770, 0o702, 0o1777])
@pytest.mark.parametrize("name", ["cache", "cache/pixels"])
def test_a_cache_that_others_can_write_to_is_rejected(
    shards: Path, tmp_path: Path, permissions: int, name: str
) -> None:
    load_patches(str(shards), tmp_path / "cache")
    (tmp_path / name).chmod(permissions)
    with pytest.raises(DataError, match="other users can write to the cache; remove it") as caught:
        load_patches(str(shards), tmp_path / "cache")
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
@pytest.mark.parametrize("name", ["cache", "cache/pixels"])
def test_a_cache_of_another_user_is_rejected(shards: Path, tmp_path: Path, name: str) -> None:
    load_patches(str(shards), tmp_path / "cache")
    os.chown(tmp_path / name, NOBODY, NOBODY)
    with pytest.raises(DataError, match="the cache belongs to another user; remove it"):
        load_patches(str(shards), tmp_path / "cache")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_shards_of_another_user_are_read(shards: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in shards.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
            os.chown(copy / path.name, NOBODY, NOBODY)
    os.chown(copy, NOBODY, NOBODY)
    copy.chmod(0o777)
    assert len(load_patches(str(copy), tmp_path / "cache").labels) == 240


def test_the_cache_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written .* RAYSEARCH_CACHE to another folder"):
        private_folder(tmp_path / "file" / "pixels")


@pytest.mark.parametrize("num_bytes", [0, 1, 99, 100, 101, 1000])
def test_a_hash_depends_on_every_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_bytes: int
) -> None:
    monkeypatch.setattr(cache_folder, "BLOCK_BYTES", 100)
    path, content = tmp_path / "file", bytearray(num_bytes)
    path.write_bytes(content)
    hashes = {content_hash(path)}
    assert hashes == {content_hash(path)}
    for position in range(0, num_bytes, 33):
        content[position] ^= 1
        path.write_bytes(content)
        hashes.add(content_hash(path))
    assert len(hashes) == 1 + len(range(0, num_bytes, 33))


def test_compiled_code_is_kept_in_the_cache_if_it_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "before")  # restored after the test
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "new" / "cache"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, _mode: path != tmp_path)
        keep_compiled_code_in_cache()
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
    keep_compiled_code_in_cache()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "new" / "cache" / "torch")
    assert not (tmp_path / "new").exists()
