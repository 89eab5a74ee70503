"""A folder that is there whole, or not at all, whatever ends the process that writes it."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from raysearch.errors import DataError


@contextmanager
def atomic_directory(out: Path) -> Iterator[Path]:
    """A folder beside `out` that becomes `out` when the block ends well, and else is removed.

    What processes that were killed have left of theirs is removed first. DataError for an `out`
    that holds something, or cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is there already; remove it, or name another folder")
    partial = out.resolve().with_name(f".{out.name}.{uuid.uuid4().hex[:8]}")
    new = [folder for folder in partial.parents if not folder.exists()]
    try:
        _sweep(partial.parent, out.name)
        partial.mkdir(parents=True)
        with owned(partial):
            yield partial
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except OSError as error:
        raise DataError(
            f"{out}: cannot be written ({error.strerror or error}); make room, or name another"
            " folder"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        for folder in new:
            with suppress(OSError):  # what was written is in it
                folder.rmdir()


def _sweep(parent: Path, name: str) -> None:
    left = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{8}}")
    for path in parent.iterdir() if parent.is_dir() else ():
        if left.fullmatch(path.name):
            with suppress(OSError), owned(path):  # of one that is being written, nobody else is
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Hold `folder` as its only owner; the kernel lets go of it when the process dies.

    BlockingIOError where another process holds it.
    """
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(opened)
