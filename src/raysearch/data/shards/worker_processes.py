"""A pool of decoding processes that handles Ctrl-C and the death of the main process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def worker_pool(num_workers: int) -> Iterator[ProcessPoolExecutor]:
    """Start worker processes that ignore Ctrl-C, and that end when this process is killed."""
    pool = None
    try:
        with _deferred_interrupt():
            pool = ProcessPoolExecutor(
                num_workers, multiprocessing.get_context("spawn"), initializer=_end_with_parent
            )
            # Ctrl-C reaches every process of the terminal, but only this one must handle it: the
            # workers start with the signal blocked. The resource tracker unblocks it when it
            # starts, so it has to start first.
            resource_tracker.ensure_running()
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                for _ in range(num_workers):  # each call starts a worker, as none is idle yet
                    pool.submit(int)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        yield pool
    finally:
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _deferred_interrupt() -> Iterator[None]:
    """Handle Ctrl-C after the block.

    Otherwise a worker that has received only a part of its instructions, or a semaphore that is
    created only in part, prints a traceback. Blocking the signal is not enough, since another
    thread of the process would receive it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    previous_handler = signal.signal(signal.SIGINT, lambda number, _frame: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous_handler)
    if received:
        signal.raise_signal(signal.SIGINT)


def _end_with_parent() -> None:
    """Make this worker end when its parent has ended in any way.

    A worker waits at a pipe whose other end it holds itself, so it would wait for ever.
    """

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
