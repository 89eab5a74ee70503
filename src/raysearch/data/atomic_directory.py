"""Writes a directory so that it exists completely or not at all, however the process ends."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from raysearch.data.disk_errors import DISK_ERRORS, FULL, disk_advice
from raysearch.data.file_access import (
    create_folder,
    partial_path,
    remove_abandoned_files,
    remove_if_abandoned,
    restrict_tree,
    try_lock,
)
from raysearch.errors import DataError


@contextmanager
def atomic_directory(out: Path, continues: Callable[[Path], bool] | None = None) -> Iterator[Path]:
    """Create a temporary directory next to `out`, and rename it to `out` at the end of the block.

    If the block raises, the temporary directory is removed unless it `continues`. Temporary
    directories that killed processes have left are removed first. The directory is closed to other
    accounts unless `--shared` names a group.

    Args:
        out: The new directory; it must not exist, or be empty.
        continues: Whether an interruption or an error leaves the temporary directory to the next
            call, which gets it with its files. After the error of a full disk, it is removed in
            any case. If None, no call gets the files of another one.

    Raises:
        DataError: If `out` is a file or a directory with files, or cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: already exists; remove it, or name another folder")
    target = out.resolve()
    new_parents = [folder for folder in target.parents if not folder.exists()]
    partial, unfinished = target, unfinished_path(out)
    # An interrupt may come before `partial` is known.
    created: list[Path] = []
    try:
        remove_abandoned_files(target.parent, out.name)
        with ExitStack() as stack:
            if continues is not None and _lock_unfinished(stack, unfinished):
                partial = unfinished
            else:
                partial = lock_new_folder(stack, lambda: _create_partial(out, created))
            try:
                yield partial
            except BaseException as error:
                is_full = isinstance(error, OSError) and error.errno in FULL
                if continues is None or is_full or not continues(partial):
                    created.append(partial)
                raise
            restrict_tree(partial)
            if out.exists():
                out.rmdir()
            partial.rename(out)
    except OSError as error:
        advice = f"{disk_advice(error)}, or " if error.errno in DISK_ERRORS else ""
        raise DataError(
            f"{out}: cannot be written ({_reason(error, partial)}); {advice}name another folder"
        ) from None
    finally:
        for path in created:  # after success, it has its own name
            shutil.rmtree(path, ignore_errors=True)
        if continues is not None and not continues(unfinished):
            remove_if_abandoned(unfinished)
        for folder in new_parents:
            with suppress(OSError):  # after success, the parents are not empty
                folder.rmdir()


def unfinished_path(out: Path) -> Path:
    """Return the temporary directory that an interruption leaves to the next call for `out`."""
    return out.resolve().with_name(f".{out.name}.unfinished")


def _lock_unfinished(stack: ExitStack, unfinished: Path) -> bool:
    """Create or find the unfinished directory, and lock it; return False if it cannot be used.

    It cannot be used if another process writes it, if it belongs to another account, or if it is
    a file or a link. What prevents its use otherwise, prevents that of a new directory, too.
    """
    with suppress(OSError):
        create_folder(unfinished)
        if _is_own_folder(unfinished):
            stack.enter_context(exclusive_lock(unfinished))
            # The other process may have given it its name meanwhile.
            return _is_own_folder(unfinished)
    return False


def _is_own_folder(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _create_partial(out: Path, created: list[Path]) -> Path:
    partial = partial_path(out.resolve().with_name(out.name))
    created.append(partial)
    create_folder(partial)
    return partial


def _reason(error: OSError, partial: Path) -> str:
    """Return the reason of an error; of a full disk, with how much was written when it was full."""
    reason = str(error.strerror or error)
    if error.errno not in FULL:
        return reason
    num_bytes = sum(path.lstat().st_size for path in partial.rglob("*"))
    return f"{os.strerror(error.errno)}, after {num_bytes:,} bytes of the folder"


def lock_new_folder(stack: ExitStack, create: Callable[[], Path]) -> Path:
    """Create and lock a folder.

    Between the two steps, another process may take the folder for an abandoned one, and lock or
    remove it. Then a new folder is created.

    Args:
        stack: Its end releases the lock.
        create: Creates a folder with a new name.
    """
    while True:
        folder = create()
        with suppress(FileNotFoundError, BlockingIOError):
            stack.enter_context(exclusive_lock(folder))
            if folder.is_dir():
                return folder


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Lock `folder` for this process; the kernel releases the lock when the process ends.

    A lock file (`filelock`) inside the folder would be part of its content. On a file system
    without locks, such as some network disks, the folder is not locked.

    Raises:
        BlockingIOError: If another process holds the lock.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if try_lock(descriptor) is False:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), str(folder))
        yield
    finally:
        os.close(descriptor)
