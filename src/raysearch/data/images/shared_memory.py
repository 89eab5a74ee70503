"""Shared memory of the processes of one machine, into which workers decode patches.

A pipe would copy each pixel several times.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections import deque
from functools import cache
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray


class Slot(NamedTuple):
    """`size` bytes from `start` in the shared memory that is opened as the file `memory`."""

    memory: str
    start: int
    size: int

    def bytes(self) -> NDArray[np.uint8]:
        """The slot's memory in this process, uint8, shape (size,)."""
        return np.frombuffer(_map(self.memory), np.uint8, self.size, self.start)


@cache
def _map(memory: str) -> mmap.mmap:
    descriptor = os.open(memory, os.O_RDWR)
    try:
        return mmap.mmap(descriptor, 0)
    finally:
        os.close(descriptor)


class Slots:
    """A pool of `count` slots of `size` bytes each; unused slots take no memory."""

    def __init__(self, count: int, size: int) -> None:
        # Not /dev/shm: containers limit it to 64 MB, and writing more kills the process.
        if hasattr(os, "memfd_create"):
            self._descriptor, self._path = os.memfd_create("raysearch"), ""
            memory = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        else:
            self._descriptor, self._path = tempfile.mkstemp()
            memory = self._path
        os.truncate(self._descriptor, count * size)
        self._shared = mmap.mmap(self._descriptor, 0)
        self._free = deque(Slot(memory, number * size, size) for number in range(count))

    def take(self) -> Slot:
        """Take a free slot; IndexError if there is none."""
        return self._free.popleft()

    def give_back(self, slot: Slot) -> None:
        """Return a slot to the pool; its content will be overwritten."""
        self._free.append(slot)

    def view(self, slot: Slot, length: int) -> memoryview:
        """The first `length` bytes of `slot`."""
        return memoryview(self._shared)[slot.start : slot.start + length]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)
        _map.cache_clear()  # another pool may get the same descriptor, and with it the same path
        if self._path:
            os.unlink(self._path)  # noqa: PTH108 the path is from mkstemp
