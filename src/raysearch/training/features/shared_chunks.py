"""Shares chunks of features between the machines that compute them, through one folder."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence

import numpy as np

from raysearch.data.files import Folder
from raysearch.errors import StorageError

log = logging.getLogger(__name__)
# The folder is listed again after this time.
LISTING_S = 2.0
Chunk = tuple[int, int]


class SharedChunks:
    """The chunks of features in a folder that all workers of a study can read and write.

    Each worker begins with a section of the chunks that is its own, and then helps with the others.
    No worker waits for another one: of a lost worker, the others compute what it has not stored. If
    the folder cannot be used, a worker computes all chunks itself.

    Args:
        folder: The folder.
        worker: The number of this worker, from 0.
        num_workers: The number of workers.
    """

    def __init__(self, folder: Folder, worker: int, num_workers: int) -> None:
        self._folder, self._worker, self._num_workers = folder, worker, num_workers
        self._names: list[str] = []
        self._listed_s = -LISTING_S
        self._is_usable = True

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

    def read(self, stem: str) -> tuple[str, bytes] | None:
        """Return name and content of the chunk whose name begins with `stem`, if there is one.

        Its name ends with the SHA-256 of its content; a damaged chunk is removed.
        """
        if not self._is_usable:
            return None
        try:
            name = self._name(stem)
            if name is None:
                return None
            content = self._folder.read(name)
            if f"{stem}{hashlib.sha256(content).hexdigest()}.parquet" == name:
                return name, content
            log.warning("%s: damaged; computed again", self._folder.path(name))
            self._folder.remove(name)
            self._names.remove(name)
        except FileNotFoundError:
            self._listed_s = -LISTING_S
        except (OSError, StorageError) as error:
            self._give_up(error)
        return None

    def write(self, name: str, content: bytes) -> None:
        """Store a chunk for the other workers."""
        if not self._is_usable:
            return
        try:
            self._folder.write(name, content)
        except (OSError, StorageError) as error:
            self._give_up(error)

    def _name(self, stem: str) -> str | None:
        now = time.monotonic()
        if now - self._listed_s >= LISTING_S:
            self._names, self._listed_s = self._folder.names(), now
        return next((name for name in self._names if name.startswith(stem)), None)

    def _give_up(self, error: Exception) -> None:
        log.warning("%s: %s; this worker computes all features", self._folder.address, error)
        self._is_usable = False
