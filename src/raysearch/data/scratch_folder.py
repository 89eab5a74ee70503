"""Temporary folders that a killed process leaves behind no longer than until the next one."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from raysearch.data.atomic_directory import lock_new_folder
from raysearch.data.file_access import remove_if_abandoned

PREFIX = "rs-tmp-"
# How `tempfile.mkdtemp` ends the name of a folder.
SUFFIX = r"[0-9a-z_]{8}"
REMOVE_ATTEMPTS = 5
REMOVE_DELAY_S = 0.2


@contextmanager
def scratch_folder(prefix: str = PREFIX, base: Path | None = None) -> Iterator[Path]:
    """Create a folder that only this account can open, and remove it at the end of the block.

    This process locks the folder, and the kernel releases the lock when the process ends. Folders
    of this account with the same prefix that no process locks are removed first: processes that
    were killed have left them. On a file system without locks, they remain.

    Args:
        prefix: How the name of the folder begins.
        base: The folder in which it is; None for the folder of temporary files.
    """
    base = base or Path(tempfile.gettempdir())
    remove_abandoned_folders(base, prefix)
    with ExitStack() as stack:
        folder = lock_new_folder(stack, lambda: Path(tempfile.mkdtemp(prefix=prefix, dir=base)))
        try:
            yield folder
        finally:
            _remove(folder)


def remove_abandoned_folders(base: Path, prefix: str) -> None:
    """Remove the folders in `base` that ended processes of this account have left."""
    name = re.compile(re.escape(prefix) + SUFFIX)
    with suppress(OSError):
        for folder in list(base.iterdir()):
            if name.fullmatch(folder.name) and folder.is_dir():
                remove_if_abandoned(folder)


def _remove(folder: Path) -> None:
    """Remove the folder; a process of Ray that is about to end may still write into it."""
    for _attempt in range(REMOVE_ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(REMOVE_DELAY_S)
