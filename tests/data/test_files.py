"""Errors of an object store's library become errors that name the address."""

import pytest

from raysearch.data.files import Folder
from raysearch.data.images.decoding import image_sizes
from raysearch.errors import StorageError
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
