"""Places in memory that the processes of one machine share: patches are decoded where they stay.

Through a pipe each pixel is copied several times, into memory that the system is slow to give.
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
    """`size` bytes from `start` on in the shared memory that is opened as the file `memory`."""

    memory: str
    start: int
    size: int

    def bytes(self) -> NDArray[np.uint8]:
        """The place itself, uint8 (size,), in this process."""
        return np.frombuffer(_mapped(self.memory), np.uint8, self.size, self.start)


@cache
def _mapped(memory: str) -> mmap.mmap:
    file = os.open(memory, os.O_RDWR)
    try:
        return mmap.mmap(file, 0)
    finally:
        os.close(file)


class Slots:
    """`count` places of `size` bytes each; what is never touched takes no memory."""

    def __init__(self, count: int, size: int) -> None:
        # Not /dev/shm, of which containers have 64 MB: a write beyond them kills the process.
        if hasattr(os, "memfd_create"):
            self._file, self._name = os.memfd_create("raysearch"), ""
            memory = f"/proc/{os.getpid()}/fd/{self._file}"
        else:
            self._file, self._name = tempfile.mkstemp()
            memory = self._name
        os.truncate(self._file, count * size)
        self._shared = mmap.mmap(self._file, 0)
        self._free = deque(Slot(memory, place * size, size) for place in range(count))

    def take(self) -> Slot:
        """A free place; IndexError where there is none."""
        return self._free.popleft()

    def give_back(self, slot: Slot) -> None:
        """Free a place; what was in it will be overwritten."""
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
        os.close(self._file)
        if self._name:
            os.unlink(self._name)  # noqa: PTH108 what mkstemp gave
