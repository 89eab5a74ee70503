"""An object store whose every operation fails."""

from __future__ import annotations

from typing import Any

from raysearch.data.files import Folder

NO_KEY = PermissionError("The AWS Access Key Id you provided does not exist")


class FailingFileSystem:
    """A file system whose methods all raise `error`, except `invalidate_cache`."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, _name: str) -> Any:
        def fail(*_arguments: object, **_options: object) -> None:
            raise self._error

        return fail

    def invalidate_cache(self) -> None:
        """Do nothing: there is no cache."""


def failing_folder(error: Exception) -> Folder:
    """Return a folder of an object store whose every operation raises `error`."""
    folder = Folder("memory://bucket/all")
    folder.fs = FailingFileSystem(error)
    return folder
