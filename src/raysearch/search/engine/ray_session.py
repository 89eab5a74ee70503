"""Starts Ray or joins a cluster, handles signals meanwhile, and leaves Ray again."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import ray
from ray.exceptions import RayError

from raysearch.config.telemetry import NO_TELEMETRY
from raysearch.data.child_processes import descendants, kill_processes
from raysearch.search.engine.interrupts import (
    InterruptedStudyError,
    RayLostError,
    SignalReceiver,
    ignored_signals,
    signals_interrupt,
)
from raysearch.search.engine.local_ray import restrict_token_file
from raysearch.search.engine.ray_start import start_ray
from raysearch.search.engine.ray_watchdog import find_local_loss, watched_ray

log = logging.getLogger(__name__)
# Ray shuts down within so many seconds, also on a loaded machine.
SHUTDOWN_TIMEOUT_S = 30.0
SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # raysearch prints its own live table.
    "RAY_AIR_NEW_OUTPUT": "0",
    **NO_TELEMETRY,
}


@contextmanager
def ray_session() -> Iterator[None]:
    """Join the cluster of `cluster_address`, or start Ray on this machine; leave it at the end.

    Other accounts of this machine cannot use the Ray that is started, or read its files. Within the
    session, the signals of `interrupts.SIGNALS` raise InterruptedStudyError in the main thread.

    Raises:
        StudyError: If Ray cannot be started or joined.
        RayLostError: If Ray is lost within the session.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    restrict_token_file()
    earlier = set(descendants(os.getpid()))
    with signals_interrupt() as receiver, ExitStack() as stack:
        try:
            start_ray(stack, earlier)
            with watched_ray(receiver):
                yield
        except BaseException as error:
            if receiver.loss is not None:
                raise RayLostError(receiver.loss) from None
            if receiver.signum is not None and isinstance(error, RayError):
                raise InterruptedStudyError(receiver.signum) from None
            raise
        finally:
            with ignored_signals():
                _leave_ray(earlier, receiver)


def _leave_ray(earlier: set[int], receiver: SignalReceiver) -> None:
    """Leave Ray, and end what this process has started of it, all but the processes `earlier`."""
    is_lost = receiver.loss is not None or find_local_loss() is not None
    if is_lost or not ray.is_initialized():
        kill_processes(descendants(os.getpid(), earlier))
    with _limited_time(earlier, receiver):
        ray.shutdown()


@contextmanager
def _limited_time(earlier: set[int], receiver: SignalReceiver) -> Iterator[None]:
    """End Ray's processes if the `with` block takes too long; if that does not help, this one."""
    left = threading.Event()

    def watch() -> None:
        if left.wait(SHUTDOWN_TIMEOUT_S):
            return
        log.error("Ray did not shut down within %g s; its processes are ended", SHUTDOWN_TIMEOUT_S)
        kill_processes(descendants(os.getpid(), earlier))
        if not left.wait(SHUTDOWN_TIMEOUT_S):
            os._exit(receiver.exit_code())

    threading.Thread(target=watch, name="ray-shutdown", daemon=True).start()
    try:
        yield
    finally:
        left.set()
