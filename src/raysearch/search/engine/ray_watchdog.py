"""Notices that Ray's own processes have ended, while the main thread may wait for them for ever."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray._private import ray_constants

from raysearch.search.engine.interrupts import SignalReceiver
from raysearch.search.engine.worker_stalls import StallDetector

log = logging.getLogger(__name__)
POLL_S = 1.0
# A signal that ends Ray's processes also reaches this process: it is the cause, not the loss.
GRACE_S = 1.0
# The GCS of a cluster may restart meanwhile. Ray itself ends its driver after 60 seconds.
GCS_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5.0
# If the main thread has not noticed the loss after so many seconds, this thread ends the process.
INTERRUPT_TIMEOUT_S = 8.0
# A main thread that has noticed it, or a signal, has so many seconds to save the state. A tracking
# store that does not answer takes 15 of them.
SAVE_TIMEOUT_S = 60.0
# After an error of the main thread, the process whose loss is the cause ends within this time.
ERROR_DELAY_S = 1.0
ERROR_POLL_S = 0.1
UNIX_SOCKETS = Path("/proc/net/unix")
LOCAL_PROCESSES = {
    ray_constants.PROCESS_TYPE_RAYLET: "the raylet of Ray on this machine ended",
    ray_constants.PROCESS_TYPE_GCS_SERVER: "the GCS of Ray on this machine ended",
}


class RayWatchdog:
    """Interrupts the main thread if Ray is lost, or starts no worker on this machine.

    Args:
        receiver: The handler of the signals, by which the main thread is interrupted; its `loss` is
            what was lost.
    """

    def __init__(self, receiver: SignalReceiver) -> None:
        self._receiver = receiver
        self._node = ray._private.worker._global_node  # noqa: SLF001 no public way
        self._stopped = threading.Event()
        self._interrupting = threading.Lock()
        self._has_failed = False
        self._gcs_answered_s = time.monotonic()
        self._stalls = StallDetector()
        threading.Thread(target=self._watch, name="ray-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop watching; the main thread is not interrupted afterwards."""
        self._stopped.set()
        with self._interrupting:
            pass

    def find_cause(self) -> None:
        """Look for a loss that has caused an error of the main thread before it was noticed."""
        end_s = time.monotonic() + ERROR_DELAY_S
        while self._receiver.loss is None and self._receiver.signum is None:
            loss = self._find_raylet_loss()
            if loss is not None:
                self._report(loss)
            elif time.monotonic() > end_s:
                return
            time.sleep(ERROR_POLL_S)

    def _watch(self) -> None:
        loss = None
        while loss is None:
            if self._stopped.wait(POLL_S):
                return
            loss = self._find_loss()
        if self._stopped.wait(GRACE_S):
            return
        has_noticed = True
        if self._interrupt(loss):
            has_noticed = self._receiver.noticed_loss.wait(INTERRUPT_TIMEOUT_S)
        if not self._stopped.wait(SAVE_TIMEOUT_S if has_noticed else 0):
            for action in list(self._receiver.loss_actions):
                action()
            os._exit(self._receiver.exit_code())

    def _interrupt(self, loss: str) -> bool:
        """Interrupt the main thread, unless it knows of the loss, or of a signal that caused it."""
        with self._interrupting:
            is_known = self._receiver.loss is not None or self._receiver.signum is not None
            if is_known or self._stopped.is_set():
                return False
            self._report(loss)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return True

    def _report(self, loss: str) -> None:
        log.error("%s", loss)
        self._receiver.loss = loss
        self._receiver.on_loss(loss)

    def _find_loss(self) -> str | None:
        """Return what was lost, in a few words; None if nothing is, or that cannot be found out."""
        try:
            stall = self._stalls.check() if self._node.is_head() else None
            return stall or self._find_raylet_loss() or self._find_gcs_loss()
        except Exception:  # the next time, it may be possible
            if not self._has_failed:
                log.exception("the processes of Ray could not be watched")
            self._has_failed = True
            return None

    def _find_raylet_loss(self) -> str | None:
        if self._node.is_head():
            return find_local_loss()
        try:
            # A name is any bytes.
            lines = UNIX_SOCKETS.read_text(errors="surrogateescape").split("\n")
        except OSError:  # only Linux has this list
            return None
        if any(line.endswith(f" {self._node.raylet_socket_name}") for line in lines):
            return None
        return "the raylet of the Ray cluster on this machine ended"

    def _find_gcs_loss(self) -> str | None:
        if self._node.is_head():
            return None  # it is one of the local processes
        address = self._node.gcs_address
        host, _, port = address.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S):
                self._gcs_answered_s = time.monotonic()
        except OSError as error:
            if time.monotonic() - self._gcs_answered_s > GCS_TIMEOUT_S:
                return f"the head of the Ray cluster at {address} does not answer ({error})"
        return None


def find_local_loss() -> str | None:
    """Return which process of the Ray that this process has started ended; None if none has."""
    node = ray._private.worker._global_node  # noqa: SLF001 no public way
    if node is None or not node.is_head():
        return None
    dead = {kind for kind, _process in node.dead_processes()}
    return next((text for kind, text in LOCAL_PROCESSES.items() if kind in dead), None)


@contextmanager
def watched_ray(receiver: SignalReceiver) -> Iterator[None]:
    """Watch the Ray that this process has joined inside the `with` block.

    If the block raises an error because Ray was lost, `receiver.loss` is set afterwards.
    """
    watchdog = RayWatchdog(receiver)
    try:
        yield
    except BaseException:
        watchdog.find_cause()
        raise
    finally:
        watchdog.stop()
