"""Shares chunks of features between the machines that compute them, through one folder."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
import time
from collections.abc import Sequence

import numpy as np

from raysearch.data.files import Folder
from raysearch.errors import DataError, StorageError, first_line

log = logging.getLogger(__name__)
# The folder is listed again after this time.
LISTING_S = 2.0
# After an error, the folder is left alone for this time; after some errors, for good.
PAUSE_S, MAX_ERRORS = 30.0, 5
# So many bytes of a local disk remain free for the other files of studies.
RESERVED_BYTES = 2**30
Chunk = tuple[int, int]


class SharedChunks:
    """The chunks of features in a folder that all workers of a study can read and write.

    Each worker begins with a section of the chunks that is its own, and then helps with the others.
    No worker waits for another one: of a lost worker, the others compute what it has not stored.
    While the folder cannot be used, a worker computes as if there were no other machine.

    Args:
        folder: The folder.
        worker: The number of this worker, from 0.
        num_workers: The number of workers.
    """

    def __init__(self, folder: Folder, worker: int, num_workers: int) -> None:
        self._folder, self._worker, self._num_workers = folder, worker, num_workers
        self._names: list[str] = []
        self._listed_s = -LISTING_S
        self._num_errors, self._paused_until_s = 0, 0.0

    def order(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Return the chunks in the order in which this worker computes them.

        After its own section, the order is random: two workers that help a third one seldom compute
        the same chunk.
        """
        first = len(chunks) * self._worker // self._num_workers
        stop = len(chunks) * (self._worker + 1) // self._num_workers
        others = [*chunks[:first], *chunks[stop:]]
        order = np.random.default_rng(self._worker).permutation(len(others))
        return [*chunks[first:stop], *(others[number] for number in order)]

    def names(self, stem: str) -> list[str]:
        """Return the names of the chunks that begin with `stem`, as of a moment ago."""
        if self._is_paused():
            return []
        now = time.monotonic()
        if now - self._listed_s >= LISTING_S:
            try:
                self._names, self._listed_s = self._folder.names(), now
            except (OSError, StorageError) as error:
                self._pause(error)
                return []
        return [name for name in self._names if name.startswith(stem)]

    def read(self, stem: str) -> tuple[str, bytes] | None:
        """Return name and content of the chunk whose name begins with `stem`, if there is one.

        Its name ends with the SHA-256 of its content; a damaged chunk is removed. On a local path,
        a file that another account owns or may change is left out.
        """
        name = next(iter(self.names(stem)), None)
        if name is None:
            return None
        try:
            content, status = self._folder.read_with_status(name, follows_links=False)
        except FileNotFoundError:
            self._listed_s = -LISTING_S
            return None
        except (OSError, StorageError, DataError) as error:
            self._pause(error)
            return None
        if status is not None and not _is_trusted(status):
            log.warning("%s: another account may have written it; left out", self._path(name))
            self._names.remove(name)
            return None
        if f"{stem}{hashlib.sha256(content).hexdigest()}.parquet" == name:
            return name, content
        self.remove(name)
        return None

    def write(self, name: str, content: bytes) -> None:
        """Store a chunk for the other workers, unless a local disk is almost full."""
        if self._is_paused():
            return
        try:
            if self._folder.is_local:
                existing = next(path for path in self._folder.local.parents if path.is_dir())
                if shutil.disk_usage(existing).free < len(content) + RESERVED_BYTES:
                    return
            self._folder.write(name, content, private=True)
        except (OSError, StorageError) as error:
            self._pause(error)

    def remove(self, name: str) -> None:
        """Remove a damaged chunk, which is then computed again."""
        log.warning("%s: damaged; computed again", self._path(name))
        if name in self._names:
            self._names.remove(name)
        try:
            self._folder.remove(name)
        except (OSError, StorageError) as error:
            self._pause(error)

    def _path(self, name: str) -> str:
        return self._folder.path(name)

    def _is_paused(self) -> bool:
        return self._num_errors >= MAX_ERRORS or time.monotonic() < self._paused_until_s

    def _pause(self, error: Exception) -> None:
        self._num_errors += 1
        self._paused_until_s = time.monotonic() + PAUSE_S
        log.warning("features are not exchanged for a while: %s", first_line(error))


def _is_trusted(status: os.stat_result) -> bool:
    """Return whether only this account can have written the file."""
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
