"""The files below a folder, by their paths from there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache

from raysearch.data.files import Folder
from raysearch.data.sources.listing import UNREADABLE, Rejected
from raysearch.errors import DataError

LINK_OUT = "a link out of the folder"
NO_FILE = "a pipe, a device or a link to nothing, and no file"
LINK_IN = "a link to a folder; what is there is read at its own place"


def existing(source: str) -> Folder:
    """The folder at `source`; DataError where there is none."""
    folder = Folder(source)
    if not folder.exists():
        raise DataError(f"{source}: no such folder; give the folder that holds the images")
    if not folder.is_folder():
        raise DataError(f"{source}: not a folder; give the folder that holds the images")
    return folder


def files_of(folder: Folder, skip: str | None = None) -> tuple[list[str], list[Rejected]]:
    """Every file below `folder`, sorted, but in its subfolder `skip`; and what cannot be one."""
    rejected: list[Rejected] = []
    start = len(folder.root) + 1
    found = sorted(path[start:] for path in _paths(folder, rejected))
    known = []
    for file in found:
        if skip is not None and file.startswith(f"{skip}/"):
            continue
        if is_text(file):
            known.append(file)
        else:
            rejected.append(Rejected(file, UNREADABLE))
    return known, rejected


def is_text(file: str) -> bool:
    """Whether a shard can hold the name, which a name on a disk need not be."""
    try:
        file.encode()
    except UnicodeEncodeError:
        return False
    return True


def links_inside(folder: Folder) -> Callable[[str], bool]:
    """A function that tells whether a file of `folder` lies in it, whatever links lead there."""
    if not folder.is_local:
        return lambda _file: True
    root = os.path.realpath(folder.path())

    @cache
    def real(place: str) -> str:
        return os.path.realpath(place)

    def inside(file: str) -> bool:
        path = folder.path(file)
        found = f"{real(os.path.dirname(path))}/{os.path.basename(path)}"  # noqa: PTH119 PTH120
        found = os.path.realpath(found) if os.path.islink(found) else found  # noqa: PTH114
        return found.startswith(f"{root}/")

    return inside


def _paths(folder: Folder, rejected: list[Rejected]) -> Iterator[str]:
    if folder.is_local:  # six times as fast as fsspec's way
        root = os.path.realpath(folder.path())
        yield from _below(folder.path(), folder.path(), root, rejected)
    else:
        yield from folder.below()


def _below(place: str, top: str, root: str, rejected: list[Rejected]) -> Iterator[str]:
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.is_symlink():
                name = entry.path[len(top) + 1 :]
                inside = f"{os.path.realpath(entry.path)}/".startswith(f"{root}/")
                if not inside:
                    rejected.append(Rejected(name, LINK_OUT))
                elif os.path.isdir(entry.path):  # noqa: PTH112 a loop is no error to it
                    rejected.append(Rejected(name, LINK_IN))
                elif os.path.isfile(entry.path):  # noqa: PTH113
                    yield entry.path
                else:
                    rejected.append(Rejected(name, NO_FILE))
            elif entry.is_dir():
                yield from _below(entry.path, top, root, rejected)
            elif entry.is_file():
                yield entry.path
            else:
                rejected.append(Rejected(entry.path[len(top) + 1 :], NO_FILE))
