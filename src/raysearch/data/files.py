"""A folder on a local path or any fsspec address, whose files are never half-written."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any, cast

import fsspec
import fsspec.implementations.local

from raysearch.errors import LOGIN, DataError, StorageError

# A file on its way to its place, or left there by a process that was killed.
UNDER_WAY = re.compile(r"\..*\.[0-9a-f]{8}")


def reject_login(address: str) -> None:
    """DataError where a password is in `address`: addresses are stored, and seen in logs."""
    if LOGIN.search(address):
        raise DataError(
            f"{address}: holds a password, which would be stored with the study; leave it out, and"
            " give it as the storage wants it (for s3://, in ~/.aws/credentials)"
        )


class Folder:
    """A folder that reads and writes whole files.

    `address` is a local path or an fsspec address such as `s3://bucket/prefix`. A local file is
    written beside its place, synced and moved; object stores put a file whole or not at all.
    DataError where no file system is known for the address, or a password is in it; from then on
    FileNotFoundError and StorageError for an object store, whatever its library raises. What is
    read later from a file that `open` gave is apart from this.
    """

    def __init__(self, address: str | Path) -> None:
        reject_login(str(address))
        try:
            self.fs, root = fsspec.core.url_to_fs(str(address))
        except (ValueError, ImportError) as error:
            raise DataError(
                f"{address}: no address that can be used ({error}); give a local path or s3://..."
            ) from None
        self.root: str = root.rstrip("/")
        self.is_local = isinstance(self.fs, fsspec.implementations.local.LocalFileSystem)
        self.address: str = self.root if self.is_local else str(address).rstrip("/")

    def __truediv__(self, name: str) -> Folder:
        """The folder `name` inside this one."""
        return Folder(f"{self.address}/{name}")

    def path(self, name: str = "") -> str:
        """The path of `name` as this folder's file system wants it."""
        return f"{self.root}/{name}" if name else self.root

    @property
    def local(self) -> Path:
        """This folder as a local path; ValueError on any other file system."""
        if not self.is_local:
            raise ValueError(f"{self.address} is not a local folder")
        return Path(self.root)

    def exists(self, name: str = "") -> bool:
        """Whether a file or folder `name` is there."""
        with self._reached(name):
            self.fs.invalidate_cache()
            return bool(self.fs.exists(self.path(name)))

    def names(self, name: str = "") -> list[str]:
        """The sorted names of what lies directly in `name`; empty where nothing is.

        A file that is on its way to its place is not there yet.
        """
        return [one for one in self._all_names(name) if not UNDER_WAY.fullmatch(one)]

    def sweep(self, name: str = "") -> None:
        """Remove from `name` what processes that were killed had not moved into place."""
        for one in self._all_names(name):
            if UNDER_WAY.fullmatch(one):
                self.remove(f"{name}/{one}" if name else one)

    def _all_names(self, name: str) -> list[str]:
        if not self.exists(name):
            return []
        with self._reached(name):
            listed = self.fs.ls(self.path(name), detail=False)
        found = (str(entry).rstrip("/") for entry in listed)
        return sorted(entry.rsplit("/", 1)[-1] for entry in found if entry != self.path(name))

    def open(self, name: str) -> IO[bytes]:
        """The file `name`, open for reading."""
        with self._reached(name):
            return cast("IO[bytes]", self.fs.open(self.path(name), "rb"))

    def read(self, name: str) -> bytes:
        """The whole file `name`; FileNotFoundError where there is none."""
        with self._reached(name):
            return cast("bytes", self.fs.cat_file(self.path(name)))

    def write(self, name: str, content: bytes) -> None:
        """Put `content` at `name`, whole or not at all, replacing what was there."""
        path = self.path(name)
        if not self.is_local:
            with self._reached(name):
                self.fs.pipe_file(path, content)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")  # UNDER_WAY
        try:
            with beside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise

    def remove(self, name: str = "") -> None:
        """Remove the file or folder `name`, if it is there."""
        if self.exists(name):
            with self._reached(name):
                self.fs.rm(self.path(name), recursive=True)

    def is_folder(self) -> bool:
        """Whether this is a folder that is there."""
        with self._reached(""):
            return bool(self.fs.isdir(self.root))

    def below(self) -> list[str]:
        """The path of every file below this folder."""
        with self._reached(""):
            return list(map(str, self.fs.find(self.root)))

    def modified(self, name: str) -> datetime:
        """When the file `name` was last written."""
        with self._reached(name):
            return cast("datetime", self.fs.modified(self.path(name)))

    @contextmanager
    def _reached(self, name: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, MemoryError):
            raise
        except Exception as error:
            if self.is_local:
                raise
            where = f"{self.address}/{name}".rstrip("/")
            raise StorageError(
                f"{where}: cannot be used ({str(error) or type(error).__name__}); look at its"
                " login, and at the network"
            ) from error

    def __repr__(self) -> str:
        return f"Folder({self.address!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Folder, (self.address,))
