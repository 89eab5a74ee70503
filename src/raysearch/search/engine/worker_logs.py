"""Copies the logs of this machine's workers into the study's folder."""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress
from pathlib import Path

import ray

from raysearch.search.journal.study_folder import StudyFolder

log = logging.getLogger(__name__)
# Of a larger log, the last bytes are copied.
MAX_LOG_BYTES = 2**24
PREFIX = "worker-"


def copy_worker_logs(folder: StudyFolder) -> None:
    """Copy the logs of this machine's workers into the study's folder if that is a local path."""
    log_dir = Path(ray._private.worker._global_node.get_logs_dir_path())  # noqa: SLF001 no public way
    if folder.is_local:
        copy_logs(log_dir, folder)


def copy_logs(log_dir: Path, folder: StudyFolder) -> None:
    """Copy the logs of workers in `log_dir` into the study's folder; empty logs are left out.

    On a cluster, other accounts can write to Ray's folder of logs. Therefore only regular files of
    this account are copied, and no link is followed.
    """
    with suppress(OSError):  # no such folder, or a full disk, must not fail the study now
        directory = os.open(log_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            for name in sorted(os.listdir(directory)):  # noqa: PTH208 of a file descriptor
                content = _read_log(directory, name) if name.startswith(PREFIX) else b""
                if content:
                    folder.write(f"{folder.LOGS}/{name}", content)
        finally:
            os.close(directory)


def _read_log(directory: int, name: str) -> bytes:
    """Return the end of a log; empty if it is no regular file of this account."""
    try:
        # Without O_NONBLOCK, a named pipe would block this process.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(name, flags, dir_fd=directory)
    except OSError as error:
        log.warning("the log %s was not copied: %s", name, error.strerror)
        return b""
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        is_own = status.st_uid == os.geteuid() and status.st_nlink == 1
        if not stat.S_ISREG(status.st_mode) or not is_own:
            log.warning("the log %s was not copied: it is no regular file of this account", name)
            return b""
        file.seek(max(0, status.st_size - MAX_LOG_BYTES))
        return file.read(MAX_LOG_BYTES)
