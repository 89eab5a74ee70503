"""Lists the files in a folder and its subfolders, and rejects what is no regular file in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from raysearch.data.files import Folder
from raysearch.data.sources.listing import NOT_UTF8, Rejected
from raysearch.errors import DataError

LINK_OUT = "a link out of the folder"
NO_FILE = "a pipe, a device or a broken link, and no file"
LINK_TO_FOLDER = "a link to a folder; its files are read at their own path"
MAX_DEPTH = 50
TOO_DEEP = f"more than {MAX_DEPTH} folders deep"
# What operating systems write beside the user's files, in lower case.
SYSTEM_NAMES = frozenset(
    ("__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information")
)


def require_folder(source: str) -> Folder:
    """The folder at `source`; DataError if it does not exist, or is a file."""
    folder = Folder(source)
    if not folder.exists():
        raise DataError(f"{source}: no such folder; give the folder that holds the images")
    if not folder.is_folder():
        raise DataError(f"{source}: not a folder; give the folder that holds the images")
    return folder


def is_hidden(path: str) -> bool:
    """Whether a part of `path` is hidden, or a file of an operating system, such as `__MACOSX`."""
    return any(
        (part.startswith(".") and part not in (".", "..")) or part.lower() in SYSTEM_NAMES
        for part in path.split("/")
    )


def visible_names(folder: Folder, name: str = "") -> list[str]:
    """The sorted names of the files and folders directly in `name`, without hidden ones."""
    return [entry for entry in folder.names(name) if not is_hidden(entry)]


def list_files(folder: Folder, skip: str | None = None) -> tuple[list[str], list[Rejected]]:
    """List all files in `folder` and its subfolders, except hidden ones, see `is_hidden`.

    Args:
        folder: The folder to list.
        skip: A subfolder to ignore.

    Returns:
        The sorted paths of the files relative to `folder`, and the rejected entries.

    Raises:
        DataError: If a subfolder cannot be read.
    """
    rejected: list[Rejected] = []
    prefix_length = len(folder.root) + 1
    paths = sorted(path[prefix_length:] for path in _paths(folder, rejected))
    files = []
    for path in paths:
        if skip is not None and path.startswith(f"{skip}/"):
            continue
        if is_utf8(path):
            files.append(path)
        else:
            rejected.append(Rejected(path, NOT_UTF8))
    return files, rejected


def is_utf8(path: str) -> bool:
    """Whether `path` can be stored in a shard: names on a disk can be arbitrary bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def inside_check(folder: Folder) -> Callable[[str], bool]:
    """A function that checks whether a file of `folder` is in it after resolving symbolic links."""
    if not folder.is_local:
        return lambda _file: True
    root = os.path.realpath(folder.path())

    @cache
    def resolve(directory: str) -> str:
        return os.path.realpath(directory)

    def is_inside(file: str) -> bool:
        path = folder.path(file)
        resolved = f"{resolve(os.path.dirname(path))}/{os.path.basename(path)}"  # noqa: PTH119 PTH120
        resolved = os.path.realpath(resolved) if os.path.islink(resolved) else resolved  # noqa: PTH114
        return resolved.startswith(f"{root}/")

    return is_inside


def _paths(folder: Folder, rejected: list[Rejected]) -> Iterator[str]:
    if folder.is_local:  # `os.scandir` takes a sixth of the time that fsspec takes
        top = folder.path()
        yield from _scan(top, _Scan(top, os.path.realpath(top), rejected))
        return
    prefix_length = len(folder.root) + 1
    yield from (path for path in folder.all_paths() if not is_hidden(path[prefix_length:]))


@dataclass(frozen=True)
class _Scan:
    """The state of a scan of a folder.

    Attributes:
        top: The folder to which the paths of rejected entries are relative.
        root: `top` after resolving symbolic links.
        rejected: The rejected entries.
    """

    top: str
    root: str
    rejected: list[Rejected]

    def reject(self, path: str, reason: str) -> None:
        """Add the entry at `path` to the rejected ones."""
        self.rejected.append(Rejected(path[len(self.top) + 1 :], reason))


def _scan(directory: str, scan: _Scan, depth: int = 0) -> Iterator[str]:
    """Iterate over the paths of the files in `directory` and its subdirectories."""
    for entry in _entries(directory):
        if is_hidden(entry.name):
            continue
        if entry.is_symlink():
            if not f"{os.path.realpath(entry.path)}/".startswith(f"{scan.root}/"):
                scan.reject(entry.path, LINK_OUT)
            elif os.path.isdir(entry.path):  # noqa: PTH112 no error for a link to itself
                scan.reject(entry.path, LINK_TO_FOLDER)
            elif os.path.isfile(entry.path):  # noqa: PTH113
                yield entry.path
            else:
                scan.reject(entry.path, NO_FILE)
        elif entry.is_dir():
            if depth < MAX_DEPTH:
                yield from _scan(entry.path, scan, depth + 1)
            else:
                scan.reject(entry.path, TOO_DEEP)
        elif entry.is_file():
            yield entry.path
        else:
            scan.reject(entry.path, NO_FILE)


def _entries(directory: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            yield from entries
    except PermissionError as error:
        raise DataError(
            f"{directory}: cannot be read ({error.strerror}); change its permissions, or move it"
            " out of the source"
        ) from None
