"""Errors of a full, read-only or failing disk, with the file and the number of bytes in them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raysearch.errors import first_line

MAX_CHARACTERS = 400
# The system reports these without the file if they occur while an open file is written.
FULL = (errno.ENOSPC, errno.EDQUOT)
DISK_ERRORS = (*FULL, errno.EROFS, errno.EIO, errno.EFBIG)
ADVICE = {
    errno.EROFS: "make the disk writable",
    errno.EIO: "check the disk",
    errno.EFBIG: "raise the limit of the size of files (`ulimit -f`)",
}


@contextmanager
def disk_errors(path: Path, num_bytes: int | None = None) -> Iterator[None]:
    """Add the file and its size to an OSError of the disk.

    Args:
        path: The file that is written, or a folder of several such files.
        num_bytes: The size of the file; None for a folder, whose files name themselves or not.

    Raises:
        OSError: An error of the block; one of `DISK_ERRORS` names `path`, `num_bytes` and, if
            there is too little of it, the free space. If the error of a folder names one of its
            files, it is not changed.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS or (num_bytes is None and error.filename):
            raise
        reason, free = os.strerror(error.errno), free_bytes(path)
        if num_bytes is None:
            reason += f", {free:,} free bytes"
        elif error.errno == errno.ENOSPC:
            reason += (
                f", its {num_bytes:,} bytes do not fit into the {free:,} free bytes of its disk"
            )
        else:
            reason += f", its {num_bytes:,} bytes were not written"
        raise OSError(error.errno, reason, str(path)) from None


def free_bytes(path: Path) -> int:
    """Return the free bytes of the disk that contains `path`, a file or a folder; 0 if unknown."""
    try:
        statistics = os.statvfs(path if path.is_dir() else path.parent)
    except OSError:
        return 0
    return statistics.f_bavail * statistics.f_frsize


def disk_advice(error: OSError) -> str:
    """Return what a user does about one of `DISK_ERRORS`."""
    return ADVICE.get(error.errno or 0, "free some space")


def error_text(error: BaseException) -> str:
    """Return the first line of an error; of an OSError, its file and its reason without number."""
    if not isinstance(error, OSError) or not error.strerror:
        return first_line(error, MAX_CHARACTERS)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
