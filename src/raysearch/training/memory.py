"""Whether the C library keeps freed memory for the next step, or hands it back to the system."""

from __future__ import annotations

import ctypes
import ctypes.util
import sys

# Numbers of glibc's malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
MAX_KEPT = (1 << 31) - 1
# The second is what older ones take at most.
MAX_AT_ONCE = (1 << 30, 1 << 25)


def _libc() -> ctypes.CDLL | None:
    name = ctypes.util.find_library("c") if sys.platform == "linux" else None
    library = ctypes.CDLL(name) if name else None
    return library if hasattr(library, "mallopt") else None  # musl has none


LIBC = _libc()


def retain_allocator_memory() -> None:
    """Let this process keep what a step frees, up to 2 GB, for the next one; no number changes.

    Handed back, each page is cleared by the system when it is asked for again, which took small
    nets a third of their time. Only glibc can; elsewhere nothing happens.
    """
    if LIBC is not None:
        LIBC.mallopt(ARENA_MAX, 1)
        any(LIBC.mallopt(MMAP_THRESHOLD, most) for most in MAX_AT_ONCE)
        LIBC.mallopt(TRIM_THRESHOLD, MAX_KEPT)


def trim_allocator_memory() -> None:
    """Hand back what is kept and not in use, as between two trials."""
    if LIBC is not None:
        LIBC.malloc_trim(0)
