"""The text of an error of a tracking store; of a full disk, with the disks and their free space."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from raysearch.data.disk_errors import FULL, free_bytes
from raysearch.errors import first_line
from raysearch.search.tracking.tracking_store import ARTIFACTS, database_files

# As SQLite and as MLflow, which converts an OSError to its own, report a full disk.
FULL_TEXTS = ("database or disk is full", os.strerror(errno.ENOSPC))


def store_error_text(error: Exception, store: str) -> str:
    """Return the first line of an error.

    An error of a full disk does not say which disk it is: MLflow writes to the database, to the
    folder of artifacts and to temporary files. Each of these is added with its free bytes.

    Args:
        error: What the store raised.
        store: The tracking store.
    """
    text = first_line(error)
    if not (getattr(error, "errno", None) in FULL or any(full in text for full in FULL_TEXTS)):
        return text
    databases = database_files(store)
    paths = [*databases, *([ARTIFACTS.absolute()] if databases else [])]
    paths.append(Path(tempfile.gettempdir()))
    spaces = ", ".join(f"{path} {free_bytes(path):,}" for path in paths)
    return f"{text}; free bytes: {spaces}"
