"""Writes a directory so that it exists completely or not at all, however the process ends."""

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
    """Create a temporary directory next to `out`, and rename it to `out` at the end of the block.

    If the block raises, the temporary directory is removed. Temporary directories that killed
    processes have left are removed first.

    Args:
        out: The new directory; it must not exist, or be empty.

    Raises:
        DataError: If `out` is a file or a directory with files, or cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: already exists; remove it, or name another folder")
    partial = out.resolve().with_name(f".{out.name}.{uuid.uuid4().hex[:8]}")
    new_parents = [folder for folder in partial.parents if not folder.exists()]
    try:
        _remove_abandoned(partial.parent, out.name)
        partial.mkdir(parents=True)
        with exclusive_lock(partial):
            yield partial
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except OSError as error:
        raise DataError(
            f"{out}: cannot be written ({error.strerror or error}); free disk space, or name"
            " another folder"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        for folder in new_parents:
            with suppress(OSError):  # after success, the parents are not empty
                folder.rmdir()


def _remove_abandoned(parent: Path, name: str) -> None:
    """Remove the temporary directories of `name` that no running process has locked."""
    partial_name = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{8}}")
    for path in parent.iterdir() if parent.is_dir() else ():
        if partial_name.fullmatch(path.name):
            with suppress(OSError), exclusive_lock(path):
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Lock `folder` for this process; the kernel releases the lock when the process ends.

    A lock file (`filelock`) inside the folder would be part of its content.

    Raises:
        BlockingIOError: If another process holds the lock.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
