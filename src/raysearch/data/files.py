"""Reads and writes files on a local path or any fsspec address, never leaving a partial file."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, cast

import fsspec
import fsspec.implementations.local

from raysearch.config.addresses import LOCAL_SCHEME, address_scheme
from raysearch.data.file_access import (
    PARTIAL_FILE,
    create_folder,
    remove_abandoned_files,
    write_file,
)
from raysearch.errors import DataError, StorageError

RESTORE_ADVICE = "restore it from a copy"


class Folder:
    """A folder whose files are read and written as a whole.

    A local file is written under a temporary name, synced and renamed. An object store writes a
    file completely or not at all. On an object store, every error of its library is raised as
    FileNotFoundError or StorageError, except while reading from a file that `open` returned.

    Args:
        address: A local path, or an fsspec address such as `s3://bucket/prefix`.

    Raises:
        DataError: If the address is not allowed (see `address_scheme`), or there is no file system
            for it.
    """

    def __init__(self, address: str | Path) -> None:
        self.is_local = address_scheme(str(address)) == LOCAL_SCHEME
        try:
            self.fs, root = _file_system(str(address), self.is_local)
        except (ValueError, ImportError) as error:
            raise DataError(
                f"{address}: not a valid address ({error}); give a local path or s3://..."
            ) from None
        self.root: str = root.rstrip("/")
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
        """Whether the file or folder `name` exists, or a link of that name."""
        if self.is_local:  # fsspec's own method catches every exception, such as that of Ctrl-C
            return os.path.lexists(self.path(name))
        with self._storage_errors(name):
            self.fs.invalidate_cache()
            return bool(self.fs.exists(self.path(name)))

    def names(self, name: str = "") -> list[str]:
        """The sorted names of the files and folders directly in `name`, without partial files.

        The list is empty if `name` does not exist.
        """
        return [entry for entry in self._all_names(name) if not PARTIAL_FILE.fullmatch(entry)]

    def remove_partial_files(self) -> None:
        """Remove the partial files in a local folder and below, which killed processes have left.

        A file that a running process is writing remains.
        """
        if self.is_local:
            for folder, _names, _files in os.walk(self.root):
                remove_abandoned_files(Path(folder))

    def _all_names(self, name: str) -> list[str]:
        if not self.exists(name):
            return []
        with self._storage_errors(name):
            listing = self.fs.ls(self.path(name), detail=False)
        paths = (str(path).rstrip("/") for path in listing)
        return sorted(path.rsplit("/", 1)[-1] for path in paths if path != self.path(name))

    def open(self, name: str) -> IO[bytes]:
        """Open the file `name` for reading; DataError for a pipe or a device."""
        if self.is_local:
            return open_regular(self.path(name))
        with self._storage_errors(name):
            return cast("IO[bytes]", self.fs.open(self.path(name), "rb"))

    def read(self, name: str, max_bytes: int | None = None, advice: str = RESTORE_ADVICE) -> bytes:
        """Read the whole file `name`.

        Args:
            name: The file.
            max_bytes: The largest size that is accepted.
            advice: What to do about a larger file, for the message.

        Raises:
            FileNotFoundError: If it does not exist.
            DataError: If it is a pipe or a device, or larger than `max_bytes`.
        """
        return self.read_with_status(name, max_bytes, advice=advice)[0]

    def read_with_status(
        self,
        name: str,
        max_bytes: int | None = None,
        *,
        follows_links: bool = True,
        advice: str = RESTORE_ADVICE,
    ) -> tuple[bytes, os.stat_result | None]:
        """Read the file `name` as `read` does; return its content and its status.

        The status is that of the local file that was read: another account may replace the name
        meanwhile. On an object store, it is None.

        Args:
            name: The file.
            max_bytes: The largest size that is accepted.
            follows_links: Whether a local file may be a link; otherwise, a link raises an OSError.
            advice: What to do about a larger file, for the message.
        """
        if self.is_local:
            descriptor = regular_descriptor(self.path(name), follows_links=follows_links)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(file.fileno())
                self._check_size(name, status.st_size, max_bytes, advice)
                return file.read(), status
        with self._storage_errors(name):
            if max_bytes is not None:
                num_bytes = int(self.fs.size(self.path(name)) or 0)
                self._check_size(name, num_bytes, max_bytes, advice)
            return cast("bytes", self.fs.cat_file(self.path(name))), None

    def _check_size(self, name: str, num_bytes: int, max_bytes: int | None, advice: str) -> None:
        if max_bytes is not None and num_bytes > max_bytes:
            raise DataError(
                f"{self.path(name)}: {num_bytes:,} bytes, more than the limit of {max_bytes:,} for"
                f" such a file; {advice}"
            )

    def write(self, name: str, content: bytes, *, private: bool = False) -> None:
        """Write `content` to the file `name` completely or not at all; replace an existing file.

        A local file is closed to other accounts, or shared as its folder is unless it is `private`.
        """
        path = self.path(name)
        if not self.is_local:
            with self._storage_errors(name):
                self.fs.pipe_file(path, content)
            return
        target = Path(path)
        create_folder(target.parent, inherits=True)
        write_file(target, content, inherits=True, private=private)

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

    def file_names(self) -> list[str]:
        """The sorted names of all files in this folder and its subfolders, without partial ones."""
        names = (path.removeprefix(self.root).lstrip("/") for path in self.all_paths())
        return sorted(name for name in names if not PARTIAL_FILE.fullmatch(name.rsplit("/")[-1]))

    def total_bytes(self) -> int:
        """The size of all files in this folder and its subfolders."""
        with self._storage_errors(""):
            files = self.fs.find(self.root, detail=True).values()
            return sum(int(file["size"] or 0) for file in files)

    def modified(self, name: str) -> datetime:
        """The time of the last modification of the file `name`."""
        with self._storage_errors(name):
            return cast("datetime", self.fs.modified(self.path(name)))

    @contextmanager
    def _storage_errors(self, name: str) -> Iterator[None]:
        """Convert errors of an object store's library to StorageError."""
        try:
            yield
        except (FileNotFoundError, MemoryError, DataError):
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


def open_regular(path: str | Path) -> IO[bytes]:
    """Open a local file for reading, without waiting for the writer of a pipe.

    Raises:
        OSError: If it cannot be opened, or is a folder.
        DataError: If it is a pipe, a socket or a device.
    """
    return os.fdopen(regular_descriptor(path), "rb")


def is_foreign(status: os.stat_result | None) -> bool:
    """Whether another account, and not root, owns a file with that status; False for None."""
    return status is not None and status.st_uid not in (os.geteuid(), 0)


def is_open_to_changes(status: os.stat_result | None) -> bool:
    """Whether other accounts than its owner may have written to a file with that status.

    They may if its mode allows it, or if it has another name, in a folder with other rights.
    """
    if status is None:
        return False
    return bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)) or status.st_nlink != 1


def regular_descriptor(path: str | Path, *, follows_links: bool = True) -> int:
    """Open a local file like `open_regular`; return its descriptor."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follows_links else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise _not_regular(path) from None
        raise
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise _not_regular(path)


def _not_regular(path: str | Path) -> DataError:
    return DataError(f"{path}: a pipe or a device; give a regular file")


def _file_system(address: str, is_local: bool) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of an allowed address, and the path of the address in it."""
    if not is_local:
        file_system, root = fsspec.core.url_to_fs(address)
        return file_system, str(root)
    path = os.path.expanduser(address.removeprefix(f"{LOCAL_SCHEME}://"))  # noqa: PTH111
    return fsspec.implementations.local.LocalFileSystem(), str(Path.cwd() / path)
