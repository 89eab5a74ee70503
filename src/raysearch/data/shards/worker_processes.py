"""Processes that decode, on every core."""

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
def working(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of `workers` processes, which leave Ctrl-C to this one, and end when it is killed."""
    pool = None
    try:
        with _later_interrupt():
            pool = ProcessPoolExecutor(
                workers, multiprocessing.get_context("spawn"), initializer=_end_with_parent
            )
            # Ctrl-C reaches every process of the terminal, and only this one is to answer it: the
            # workers are born with it blocked. The tracker unblocks it when it starts, so it goes
            # first.
            resource_tracker.ensure_running()
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                for _ in range(workers):  # each starts a worker, as none is ready yet
                    pool.submit(int)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        yield pool
    finally:
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _later_interrupt() -> Iterator[None]:
    """Answer Ctrl-C after the block: a worker that has got half of its orders prints a traceback.

    So does a semaphore that is made by half. A mask is not enough, since the signal then goes to
    another thread of the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        signal.raise_signal(signal.SIGINT)


def _end_with_parent() -> None:
    """Let this worker end when its parent has, however that ended.

    A worker waits for orders at a pipe whose other end it holds itself, and would wait for ever.
    """

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
