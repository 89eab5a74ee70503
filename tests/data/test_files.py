"""Errors of an object store's library become errors that name the address."""

import os
import socket
from pathlib import Path

import pytest

from raysearch.data.files import Folder
from raysearch.data.images.chunk_decoding import image_sizes
from raysearch.errors import DataError, StorageError
from support.failing_store import NO_KEY, failing_folder


@pytest.mark.parametrize("error", [NO_KEY, RuntimeError("no credentials"), TimeoutError()])
def test_an_error_of_the_store_names_the_address_and_the_reason(error: Exception) -> None:
    folder = failing_folder(error)
    operations = (
        lambda: folder.exists("x"),
        lambda: folder.read("x"),
        lambda: folder.write("x", b""),
        lambda: folder.open("x"),
        lambda: folder.names("x"),
        lambda: folder.modified("x"),
    )
    for operation in operations:
        with pytest.raises(StorageError) as raised:
            operation()
        reason = f"cannot be used ({str(error) or 'TimeoutError'}); check the credentials"
        assert str(raised.value).startswith(f"memory://bucket/all/x: {reason}")


def test_a_missing_file_is_no_error_of_the_store() -> None:
    with pytest.raises(FileNotFoundError):
        Folder("memory://bucket/all").read("x")
    with pytest.raises(FileNotFoundError):
        failing_folder(FileNotFoundError("x")).read("x")


def test_no_image_is_left_out_because_the_store_fails() -> None:
    with pytest.raises(StorageError):
        image_sizes(failing_folder(NO_KEY), ["a.png"])


def test_a_local_path_may_contain_colons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("double::colon", "file:x", "local:y", "a::b::c"):
        (tmp_path / name / "inner").mkdir(parents=True)
        for folder in (Folder(tmp_path / name), Folder(name), Folder(tmp_path) / name):
            assert folder.is_local
            assert folder.names() == ["inner"]
            folder.write("file", b"content")
            assert (tmp_path / name / "file").read_bytes() == folder.read("file") == b"content"
            folder.remove("file")
    assert Folder(".").root == Folder("").root == str(tmp_path)


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/x", "zip://a::file:///x", "github://x"])
def test_a_folder_is_no_address_that_is_not_allowed(address: str) -> None:
    with pytest.raises(DataError, match="not allowed"):
        Folder(address)


def test_a_pipe_or_device_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "null").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for name in ("pipe", "zero", "null", "socket"):
            for read in (Folder(tmp_path).read, Folder(tmp_path).open):
                with pytest.raises(DataError, match="a pipe or a device; give a regular file"):
                    read(name)
    with pytest.raises(IsADirectoryError):
        Folder(tmp_path.parent).read(tmp_path.name)


def test_a_file_above_the_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**42)
    for folder in (Folder(tmp_path), Folder("memory://limits")):
        folder.write("small", b"12345")
        assert folder.read("small", max_bytes=5) == b"12345"
        with pytest.raises(DataError, match="5 bytes, more than the limit of 4"):
            folder.read("small", max_bytes=4)
    with pytest.raises(DataError, match="more than the limit"):
        Folder(tmp_path).read("sparse", max_bytes=2**20)


def test_an_interrupt_is_not_mistaken_for_a_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_path: str) -> None:
        raise KeyboardInterrupt

    folder = Folder(tmp_path)
    monkeypatch.setattr(os, "lstat", interrupt)
    with pytest.raises(KeyboardInterrupt):
        folder.exists("plan.json")
