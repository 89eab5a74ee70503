"""Controls whether glibc's allocator retains freed memory or returns it to the system."""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import sys

import torch

# Parameters of mallopt (malloc.h).
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
MAX_RETAINED_BYTES = (1 << 31) - 1
# Older versions of glibc accept the second value at most.
MMAP_THRESHOLDS_BYTES = (1 << 30, 1 << 25)
# What torch reports as a plain RuntimeError if an allocation fails, or is larger than any memory.
MEMORY_MESSAGES = (
    "can't allocate memory",
    "not enough memory",
    "std::bad_alloc",
    "Cannot allocate memory",
    "Storage size calculation overflowed",
    "integer multiplication overflow",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the memory of the machine or the device is too small."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError) and any(text in str(error) for text in MEMORY_MESSAGES):
        return True
    return isinstance(error, (MemoryError, torch.OutOfMemoryError))


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
