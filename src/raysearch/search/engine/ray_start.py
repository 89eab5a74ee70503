"""Starts Ray on this machine, or joins a cluster; on a loaded machine, in a second attempt."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import ray
from ray._private import ray_constants, services
from ray._private import utils as ray_utils
from ray._private.node import Node
from ray._raylet import persist_port  # type: ignore[attr-defined]

from raysearch.config.run_location import RAY_CLIENT, WEB_SCHEMES, cluster_address
from raysearch.data.child_processes import descendants, is_running, kill_processes
from raysearch.errors import StudyError, first_line
from raysearch.search.engine.local_ray import private_ray, ray_environment
from raysearch.search.engine.local_ray_processes import limit_local_ray
from raysearch.search.engine.worker_path import ClusterJobConfig, WorkerJobConfig

log = logging.getLogger(__name__)
# So long, an attempt to start Ray waits for the raylet, and the raylet for its agents.
START_TIMEOUTS_S = (30, 180)
# Native code waits so long at once, and notices no signal meanwhile.
WAIT_S = 2
# Between two questions whether the raylet and its agents are ready.
PAUSE_S = 0.1
RAYLET_WAIT = "RAY_raylet_start_wait_time_s"
AGENT_TIMEOUT = "RAY_agent_register_timeout_ms"
# Each of the two agents listens on the first port of its own that is named here.
AWAITED_PORTS = ("metrics_agent_port", "runtime_env_agent_port")
AGENT_PORTS = (*AWAITED_PORTS, "metrics_export_port", "dashboard_agent_listen_port")


def start_ray(stack: ExitStack, earlier: set[int]) -> None:
    """Join a cluster, or start Ray on this machine; if that takes too long, start it once more.

    Args:
        stack: What is undone after Ray has shut down.
        earlier: The processes that this process had started before.

    Raises:
        StudyError: If Ray cannot be started or joined.
    """
    ray._private.worker.print_to_stdstream = _log_ray_message  # noqa: SLF001 no public way
    with _own_signal_handlers():
        address = cluster_address()
        if address is not None:
            _join(address)
            return
        limit_local_ray()
        # Ray's folder exists until it has shut down.
        folder = str(stack.enter_context(private_ray()))
        reason = ""
        for timeout_s in START_TIMEOUTS_S:
            try:
                _start(folder, earlier, timeout_s, with_ports=bool(reason))
            except Exception as error:  # Ray raises a bare Exception if a process is too slow
                log.exception("Ray did not start on this machine")
                kill_processes(descendants(os.getpid(), earlier))
                ray.shutdown()
                reason = first_line(error)
            else:
                return
        raise StudyError(
            f"Ray could not be started on this machine, in two attempts ({reason}); wait until the"
            " machine is less loaded, or set RAY_ADDRESS to a running cluster"
        )


def _join(address: str) -> None:
    if address.startswith(RAY_CLIENT):
        raise StudyError(
            f"RAY_ADDRESS={address}: a study does not run through Ray Client; send it to the"
            " cluster with --on http://HEAD:8265"
        )
    if address.startswith(WEB_SCHEMES):
        raise StudyError(
            f"RAY_ADDRESS={address}: this command does not run on the cluster of a dashboard; set"
            " RAY_ADDRESS=local"
        )
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
            job_config=ClusterJobConfig(),
        )
    except Exception as error:  # of many types, among them bare ones
        raise StudyError(
            f"Ray at {address} cannot be used ({first_line(error)}); start it, or set RAY_ADDRESS"
            " to a running cluster, or to `local` for this machine alone"
        ) from None


def _start(folder: str, earlier: set[int], timeout_s: int, *, with_ports: bool) -> None:
    """Start Ray on this machine with its files in `folder`.

    A raylet waits 15 seconds, and no setting changes that, for the ports that its agents choose.
    With `with_ports`, the ports are chosen here. The raylet is then ready before its agents, and it
    ends if one of them ends, which would end this process too: so the agents are awaited here.
    """
    ports = dict(zip(AGENT_PORTS, _free_ports(len(AGENT_PORTS)), strict=True)) if with_ports else {}
    # A longer time that the user has set is kept.
    agent_timeout_ms = max(1000 * timeout_s, int(os.environ.get(AGENT_TIMEOUT, "0")))
    settings = {RAYLET_WAIT: str(WAIT_S), AGENT_TIMEOUT: str(agent_timeout_ms)}
    with (
        ray_environment(settings),
        _raylet_awaited(earlier, timeout_s, [ports[name] for name in AWAITED_PORTS if ports]),
        _agent_ports(ports),
    ):
        ray.init(
            # Without an address, Ray would join any cluster that it finds on this machine.
            address="local",
            _temp_dir=folder,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
            job_config=WorkerJobConfig(),
        )


@contextmanager
def _raylet_awaited(earlier: set[int], timeout_s: int, ports: list[int]) -> Iterator[None]:
    """Let Ray wait `timeout_s` for its raylet, but not for one that has ended.

    Args:
        earlier: The processes that this process had started before.
        timeout_s: How long the raylet may take, in seconds.
        ports: Local ports on which the agents of the raylet have to listen.
    """
    get_node = services.get_node

    def get_node_in_time(gcs_address: str, node_id: str) -> object:
        start_s = time.monotonic()
        while True:
            with suppress(RuntimeError):  # it is not ready
                node: object = get_node(gcs_address, node_id)
                if all(_listens(port) for port in ports):
                    return node
            started = descendants(os.getpid(), earlier)
            if not any(is_running(pid, "raylet") for pid in started):
                raise StudyError("its raylet ended")
            if time.monotonic() - start_s > timeout_s:
                raise StudyError(f"its raylet was not ready within {timeout_s} s")
            time.sleep(PAUSE_S)

    services.get_node = get_node_in_time
    try:
        yield
    finally:
        services.get_node = get_node


@contextmanager
def _agent_ports(ports: Mapping[str, int]) -> Iterator[None]:
    """Set ports of the agents of the Ray that is started inside the `with` block."""
    start_raylet = Node.start_raylet

    def start_raylet_with_ports(node: Any, *arguments: Any, **options: Any) -> None:
        params, session = node._ray_params, node._session_dir  # noqa: SLF001 no public way
        for name, port in ports.items():
            setattr(params, name, port)
            # The raylet waits for this file, which an agent writes again with the same port.
            persist_port(session, node._node_id, name, port)  # noqa: SLF001 no public way
        start_raylet(node, *arguments, **options)

    Node.start_raylet = start_raylet_with_ports
    try:
        yield
    finally:
        Node.start_raylet = start_raylet


def _listens(port: int) -> bool:
    """Return whether a process listens on a port of this machine."""
    try:
        socket.create_connection(("localhost", port), timeout=1).close()
    except OSError:
        return False
    return True


def _free_ports(count: int) -> list[int]:
    """Return ports of the loopback address that nothing listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _port in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Keep the signal handlers of this process while Ray starts: Ray would install its own."""
    set_handler = ray_utils.set_sigterm_handler
    ray_utils.set_sigterm_handler = lambda _handler: None
    # Otherwise native code also ends this process upon SIGTERM.
    ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = True
    try:
        yield
    finally:
        ray_utils.set_sigterm_handler = set_handler


def _log_ray_message(message: object, **_options: object) -> None:
    """Log what Ray would print over the live table, such as the log of a raylet that ended."""
    log.warning("%s", message)
