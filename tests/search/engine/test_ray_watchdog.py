"""The watchdog of a cluster: the socket of the raylet and the address of the GCS are real."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import ray
from ray.exceptions import RayError

from raysearch.search.engine import ray_session, ray_watchdog
from raysearch.search.engine.interrupts import (
    RAY_LOST_CODE,
    InterruptedStudyError,
    SignalReceiver,
    done_at_loss,
    signals_interrupt,
)


@dataclass(frozen=True)
class JoinedNode:
    """What Ray knows of the node of a cluster that a process has joined."""

    gcs: socket.socket
    raylet: socket.socket
    gcs_address: str
    raylet_socket_name: str

    def is_head(self) -> bool:
        return False


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JoinedNode]:
    folder = tmp_path / "my folder"
    folder.mkdir()
    with ExitStack() as stack:
        gcs = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4000))
        raylet = stack.enter_context(socket.socket(socket.AF_UNIX))
        raylet.bind(str(folder / "raylet"))
        raylet.listen()
        other = stack.enter_context(socket.socket(socket.AF_UNIX))
        other.bind(str(folder / "raylet.1"))  # of another node on this machine
        other.listen()
        host, port = gcs.getsockname()
        joined = JoinedNode(gcs, raylet, f"{host}:{port}", str(folder / "raylet"))
        monkeypatch.setattr(ray._private.worker, "_global_node", joined)
        for name, value in (("POLL_S", 0.02), ("GRACE_S", 0.1), ("GCS_TIMEOUT_S", 0.3)):
            monkeypatch.setattr(ray_watchdog, name, value)
        yield joined


def loss_within(seconds: float, receiver: SignalReceiver) -> str | None:
    try:
        time.sleep(seconds)
    except InterruptedStudyError:
        return receiver.loss
    return None


def exit_code(action: Callable[[], object]) -> int:
    """The exit code of a process that does `action`; 0 if it ends."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_nothing_is_lost_while_the_raylet_and_the_gcs_answer(node: JoinedNode) -> None:
    assert node
    with signals_interrupt() as receiver, ray_watchdog.watched_ray(receiver):
        assert loss_within(1, receiver) is None


def test_a_lost_raylet_interrupts_the_main_thread(node: JoinedNode) -> None:
    losses: list[str] = []
    with signals_interrupt() as receiver, ray_watchdog.watched_ray(receiver):
        receiver.on_loss = losses.append
        node.raylet.close()
        loss = loss_within(10, receiver)
        assert loss == "the raylet of the Ray cluster on this machine ended"
    assert losses == [loss]


def test_a_lost_head_interrupts_the_main_thread_but_its_restart_does_not(node: JoinedNode) -> None:
    address = node.gcs.getsockname()
    with signals_interrupt() as receiver, ray_watchdog.watched_ray(receiver):
        node.gcs.close()
        with socket.create_server(address, backlog=4000):
            assert loss_within(0.6, receiver) is None
        loss = loss_within(10, receiver)
        assert loss is not None
        assert loss.startswith(f"the head of the Ray cluster at {node.gcs_address} does not answer")


def test_sockets_with_names_of_any_bytes_do_not_end_the_watch(node: JoinedNode) -> None:
    with (
        socket.socket(socket.AF_UNIX) as abstract,
        signals_interrupt() as receiver,
        ray_watchdog.watched_ray(receiver),
    ):
        abstract.bind(b"\0raysearch-test-\xff\xfe")
        assert loss_within(0.3, receiver) is None
        node.raylet.close()
        assert loss_within(10, receiver) == "the raylet of the Ray cluster on this machine ended"


def test_the_head_is_watched_where_sockets_cannot_be_listed(
    node: JoinedNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_watchdog, "UNIX_SOCKETS", tmp_path / "missing")
    with signals_interrupt() as receiver, ray_watchdog.watched_ray(receiver):
        assert loss_within(0.3, receiver) is None
        node.gcs.close()
        assert "does not answer" in str(loss_within(10, receiver))


def test_an_error_that_comes_before_the_loss_is_noticed_has_it_as_its_cause(
    node: JoinedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_watchdog, "POLL_S", 60)

    def fail(*, is_lost: bool) -> None:
        with ray_watchdog.watched_ray(receiver):
            if is_lost:
                threading.Timer(0.2, node.raylet.close).start()
            raise RayError

    with signals_interrupt() as receiver:
        with pytest.raises(RayError):
            fail(is_lost=False)
        assert receiver.loss is None
        with pytest.raises(RayError):
            fail(is_lost=True)
        assert receiver.loss == "the raylet of the Ray cluster on this machine ended"


def test_after_a_loss_the_state_is_saved_before_the_process_is_ended(
    node: JoinedNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = replace(node, raylet_socket_name=f"{node.raylet_socket_name}.2")
    monkeypatch.setattr(ray._private.worker, "_global_node", lost)

    def lose_the_raylet(save_s: float, *, blocked: bool = False, signum: int | None = None) -> None:
        with signals_interrupt() as receiver, ray_watchdog.watched_ray(receiver):
            receiver.signum = signum
            with done_at_loss((tmp_path / f"{save_s}").touch):
                if blocked:  # as in native code
                    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
                with suppress(InterruptedStudyError):
                    time.sleep(save_s if signum else 10)
                time.sleep(save_s)

    monkeypatch.setattr(ray_watchdog, "INTERRUPT_TIMEOUT_S", 10.0)
    monkeypatch.setattr(ray_watchdog, "SAVE_TIMEOUT_S", 60.0)
    assert exit_code(lambda: lose_the_raylet(1)) == 0
    with monkeypatch.context() as patch:
        patch.setattr(ray_watchdog, "INTERRUPT_TIMEOUT_S", 0.2)
        assert exit_code(lambda: lose_the_raylet(30, blocked=True)) == RAY_LOST_CODE
    monkeypatch.setattr(ray_watchdog, "SAVE_TIMEOUT_S", 0.3)
    assert exit_code(lambda: lose_the_raylet(31)) == RAY_LOST_CODE
    assert exit_code(lambda: lose_the_raylet(32, signum=15)) == 143
    assert sorted(path.name for path in tmp_path.glob("3?")) == ["30", "31", "32"]


def test_a_shutdown_of_ray_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_session, "SHUTDOWN_TIMEOUT_S", 3.0)
    receiver = SignalReceiver()

    def shut_down(*, waits_for_a_process: bool) -> None:
        process = subprocess.Popen(["sleep", "60"])
        with ray_session._limited_time(set(), receiver):
            process.wait()
            if not waits_for_a_process:
                time.sleep(60)

    assert exit_code(lambda: shut_down(waits_for_a_process=True)) == 0
    monkeypatch.setattr(ray_session, "SHUTDOWN_TIMEOUT_S", 0.3)
    assert exit_code(lambda: shut_down(waits_for_a_process=False)) == RAY_LOST_CODE
    receiver.signum = signal.SIGTERM
    assert exit_code(lambda: shut_down(waits_for_a_process=False)) == 143


def test_a_signal_that_also_ends_ray_is_no_loss(node: JoinedNode) -> None:
    with signals_interrupt() as receiver, ray_watchdog.watched_ray(receiver):
        receiver.signum = 15
        node.raylet.close()
        assert loss_within(1, receiver) is None
        assert receiver.loss is None
