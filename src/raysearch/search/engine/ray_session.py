"""Starts Ray or joins a cluster, handles signals meanwhile, and leaves Ray again."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import ray
from ray.exceptions import RayError

from raysearch.errors import StudyError, first_line
from raysearch.search.engine.nodes import cluster_address
from raysearch.search.journal.study_folder import StudyFolder

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # raysearch prints its own live table.
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


class InterruptedStudyError(KeyboardInterrupt):
    """The process received SIGINT or SIGTERM; `signum` is the signal.

    It is a KeyboardInterrupt because Ray swallows every other exception of a signal handler that
    runs while Ray waits. Ray then raises a plain KeyboardInterrupt.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@contextmanager
def ray_session() -> Iterator[None]:
    """Join the cluster of `cluster_address`, or start Ray on this machine; leave it at the end.

    Within the session, SIGINT and SIGTERM raise InterruptedStudyError in the main thread.

    Raises:
        StudyError: If Ray cannot be started or joined.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    _start_ray()
    # Ray installs its own handler of SIGTERM, so this one is installed after it.
    received: list[int] = []

    def interrupt(signum: int, _frame: FrameType | None) -> None:
        received.append(signum)
        raise InterruptedStudyError(signum)

    previous_handlers = {signum: signal.signal(signum, interrupt) for signum in SIGNALS}
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedStudyError(received[0] if received else signal.SIGINT) from None
    finally:
        for signum in previous_handlers:
            signal.signal(signum, signal.SIG_IGN)
        ray.shutdown()
        for signum, handler in previous_handlers.items():
            signal.signal(signum, handler)


def _start_ray() -> None:
    address = cluster_address()
    try:
        ray.init(
            # Without an address, Ray would join any cluster that it finds on this machine.
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
        )
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:
        raise StudyError(
            f"Ray at {address or 'this machine'} cannot be used ({first_line(error)}); start it,"
            " or set RAY_ADDRESS to a running cluster, or to `local` for this machine alone"
        ) from None


def copy_worker_logs(folder: StudyFolder) -> None:
    """Copy the logs of this machine's workers into the study's folder if that is a local path."""
    log_dir = Path(ray._private.worker._global_node.get_logs_dir_path())  # noqa: SLF001 no public way
    if not folder.is_local or not log_dir.is_dir():
        return
    target = folder.local / folder.LOGS
    target.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # a full disk must not fail the study now
        for path in log_dir.glob("worker-*"):
            if path.stat().st_size:
                shutil.copy(path, target / path.name)
