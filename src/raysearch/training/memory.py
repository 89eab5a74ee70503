"""Controls whether glibc's allocator retains freed memory or returns it to the system."""

from __future__ import annotations

import ctypes
import ctypes.util
import sys

# Parameters of mallopt (malloc.h).
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
MAX_RETAINED_BYTES = (1 << 31) - 1
# Older versions of glibc accept the second value at most.
MMAP_THRESHOLDS_BYTES = (1 << 30, 1 << 25)


def _load_libc() -> ctypes.CDLL | None:
    name = ctypes.util.find_library("c") if sys.platform == "linux" else None
    library = ctypes.CDLL(name) if name else None
    return library if hasattr(library, "mallopt") else None  # musl has no mallopt


LIBC = _load_libc()


def retain_allocator_memory() -> None:
    """Let this process retain up to 2 GB of freed memory for the next training step.

    The system clears each page that it gives out, which takes up to a third of the time of small
    networks. The function does nothing without glibc. Results do not change.
    """
    if LIBC is not None:
        LIBC.mallopt(ARENA_MAX, 1)
        any(LIBC.mallopt(MMAP_THRESHOLD, threshold) for threshold in MMAP_THRESHOLDS_BYTES)
        LIBC.mallopt(TRIM_THRESHOLD, MAX_RETAINED_BYTES)


def trim_allocator_memory() -> None:
    """Return retained memory to the system, as between two trials."""
    if LIBC is not None:
        LIBC.malloc_trim(0)
