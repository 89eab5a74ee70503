"""Reads and writes files on a local path or any fsspec address, never leaving a partial file."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, cast

import fsspec
import fsspec.implementations.local

from raysearch.config.names import reject_login
from raysearch.errors import DataError, StorageError

# A file that is being written, or that a killed process has left.
PARTIAL_FILE = re.compile(r"\..*\.[0-9a-f]{8}")


class Folder:
    """A folder whose files are read and written as a whole.

    A local file is written under a temporary name, synced and renamed. An object store writes a
    file completely or not at all. On an object store, every error of its library is raised as
    FileNotFoundError or StorageError, except while reading from a file that `open` returned.

    Args:
        address: A local path, or an fsspec address such as `s3://bucket/prefix`.

    Raises:
        DataError: If there is no file system for the address, or it contains a password.
    """

    def __init__(self, address: str | Path) -> None:
        reject_login(str(address))
        try:
            self.fs, root = fsspec.core.url_to_fs(str(address))
        except (ValueError, ImportError) as error:
            raise DataError(
                f"{address}: not a valid address ({error}); give a local path or s3://..."
            ) from None
        self.root: str = root.rstrip("/")
        self.is_local = isinstance(self.fs, fsspec.implementations.local.LocalFileSystem)
        self.address: str = self.root if self.is_local else str(address).rstrip("/")

    def __truediv__(self, name: str) -> Folder:
        """The folder `name` in this folder."""
        return Folder(f"{self.address}/{name}")

    def path(self, name: str = "") -> str:
        """The path of `name` in this folder's file system."""
        return f"{self.root}/{name}" if name else self.root

    @property
    def local(self) -> Path:
        """This folder as a local path; ValueError on any other file system."""
        if not self.is_local:
            raise ValueError(f"{self.address} is not a local folder")
        return Path(self.root)

    def exists(self, name: str = "") -> bool:
        """Whether the file or folder `name` exists."""
        with self._storage_errors(name):
            self.fs.invalidate_cache()
            return bool(self.fs.exists(self.path(name)))

    def names(self, name: str = "") -> list[str]:
        """The sorted names of the files and folders directly in `name`, without partial files.

        The list is empty if `name` does not exist.
        """
        return [entry for entry in self._all_names(name) if not PARTIAL_FILE.fullmatch(entry)]

    def remove_partial_files(self, name: str = "") -> None:
        """Remove the partial files directly in `name`, which killed processes have left."""
        for entry in self._all_names(name):
            if PARTIAL_FILE.fullmatch(entry):
                self.remove(f"{name}/{entry}" if name else entry)

    def _all_names(self, name: str) -> list[str]:
        if not self.exists(name):
            return []
        with self._storage_errors(name):
            listing = self.fs.ls(self.path(name), detail=False)
        paths = (str(path).rstrip("/") for path in listing)
        return sorted(path.rsplit("/", 1)[-1] for path in paths if path != self.path(name))

    def open(self, name: str) -> IO[bytes]:
        """Open the file `name` for reading."""
        with self._storage_errors(name):
            return cast("IO[bytes]", self.fs.open(self.path(name), "rb"))

    def read(self, name: str) -> bytes:
        """Read the whole file `name`; FileNotFoundError if it does not exist."""
        with self._storage_errors(name):
            return cast("bytes", self.fs.cat_file(self.path(name)))

    def write(self, name: str, content: bytes) -> None:
        """Write `content` to the file `name` completely or not at all; replace an existing file."""
        path = self.path(name)
        if not self.is_local:
            with self._storage_errors(name):
                self.fs.pipe_file(path, content)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")  # PARTIAL_FILE
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def remove(self, name: str = "") -> None:
        """Remove the file or folder `name` if it exists."""
        if self.exists(name):
            with self._storage_errors(name):
                self.fs.rm(self.path(name), recursive=True)

    def is_folder(self) -> bool:
        """Whether this folder exists and is no file."""
        with self._storage_errors(""):
            return bool(self.fs.isdir(self.root))

    def all_paths(self) -> list[str]:
        """The paths of all files in this folder and its subfolders."""
        with self._storage_errors(""):
            return list(map(str, self.fs.find(self.root)))

    def modified(self, name: str) -> datetime:
        """The time of the last modification of the file `name`."""
        with self._storage_errors(name):
            return cast("datetime", self.fs.modified(self.path(name)))

    @contextmanager
    def _storage_errors(self, name: str) -> Iterator[None]:
        """Convert errors of an object store's library to StorageError."""
        try:
            yield
        except (FileNotFoundError, MemoryError):
            raise
        except Exception as error:
            if self.is_local:
                raise
            address = f"{self.address}/{name}".rstrip("/")
            raise StorageError(
                f"{address}: cannot be used ({str(error) or type(error).__name__}); check the"
                " credentials and the network"
            ) from error

    def __repr__(self) -> str:
        return f"Folder({self.address!r})"

    def __reduce__(self) -> tuple[type[Folder], tuple[str]]:
        return (Folder, (self.address,))
