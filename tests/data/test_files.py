"""What an object store's library raises, as callers of a folder see it."""

from __future__ import annotations

from typing import Any

import pytest

from raysearch.data.files import Folder
from raysearch.data.patches import shard_errors
from raysearch.data.shards.decoding import sizes_of
from raysearch.errors import StorageError


class Refusing:
    """A file system that raises what it is given, whatever it is asked for."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, _name: str) -> Any:
        def reject(*_words: object, **_more: object) -> None:
            raise self._error

        return reject

    def invalidate_cache(self) -> None:
        """There is none."""


def refusing(error: Exception) -> Folder:
    folder = Folder("memory://bucket/all")
    folder.fs = Refusing(error)
    return folder


NO_KEY = PermissionError("The AWS Access Key Id you provided does not exist")


@pytest.mark.parametrize("error", [NO_KEY, RuntimeError("no credentials"), TimeoutError()])
def test_a_store_that_refuses_says_where_and_why(error: Exception) -> None:
    folder = refusing(error)
    asks = (
        lambda: folder.exists("x"),
        lambda: folder.read("x"),
        lambda: folder.write("x", b""),
        lambda: folder.open("x"),
        lambda: folder.names("x"),
        lambda: folder.modified("x"),
    )
    for ask in asks:
        with pytest.raises(StorageError) as raised:
            ask()
        why = f"cannot be used ({str(error) or 'TimeoutError'}); look at its login"
        assert str(raised.value).startswith(f"memory://bucket/all/x: {why}")


def test_what_is_not_there_is_not_a_store_that_refuses() -> None:
    with pytest.raises(FileNotFoundError):
        Folder("memory://bucket/all").read("x")
    with pytest.raises(FileNotFoundError):
        refusing(FileNotFoundError("x")).read("x")


def test_no_image_is_left_out_because_a_store_was_away() -> None:
    with pytest.raises(StorageError):
        sizes_of(refusing(NO_KEY), ["a.png"])


def test_a_shard_that_cannot_be_fetched_is_not_called_damaged() -> None:
    folder = refusing(NO_KEY)
    with pytest.raises(StorageError), shard_errors(folder, "part-00000.parquet"):
        folder.read("part-00000.parquet")
