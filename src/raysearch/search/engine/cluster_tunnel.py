"""The tunnel to the dashboard of a cluster, which `ray dashboard` opens, and Ray's token."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import yaml
from ray._raylet import Config  # type: ignore[attr-defined]

from raysearch.errors import StudyError
from raysearch.search.engine.cluster_ssh import ray_program, ssh_environment
from raysearch.search.engine.local_ray import TOKEN_FILE, restrict_token_file

DASHBOARD_PORT = 8265
TUNNEL_TIMEOUT_S = 60.0
TUNNEL_ENDED = "raysearch-tunnel-ended"


@contextmanager
def cluster_tunnel(cluster: Path, on_status: Callable[[str], None]) -> Iterator[str]:
    """Connect to the running cluster that `ray up` started; give the address of its dashboard.

    Args:
        cluster: The cluster file.
        on_status: Called with a line of text before the connection opens.

    Raises:
        StudyError: If the cluster cannot be reached, or its ssh connections are not safe.
    """
    if not cluster.is_file():
        raise StudyError(f"{cluster}: no such file; name the file that `ray up` started")
    port = _free_port()
    command = [ray_program(), "dashboard", str(cluster)]
    command += ["--port", str(port), "--remote-port", str(DASHBOARD_PORT)]
    on_status(f"connecting to the cluster of {cluster}")
    with tempfile.TemporaryFile() as log, ssh_environment() as environment:
        # It ends with this process, even if that is killed: `cat` then reads the end of file.
        tunnel = f"{shlex.join(command)} < /dev/null; echo; echo {TUNNEL_ENDED}"
        process = subprocess.Popen(  # noqa: S603 the `ray` of this Python environment
            ["/bin/sh", "-c", f"({tunnel}) & cat > /dev/null; kill 0"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
        try:
            _wait_for_tunnel(port, log, cluster)
            yield f"http://127.0.0.1:{port}"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.communicate()


def use_token() -> None:
    """Let Ray's requests carry this user's authentication token if there is one."""
    restrict_token_file()
    if (Path.home() / TOKEN_FILE).exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        Config.initialize("")  # Ray read its settings when it was imported


def initial_num_nodes(cluster: Path) -> int:
    """Return how many nodes `ray up` starts for a cluster file, with the head.

    Raises:
        StudyError: If the file is no cluster file.
    """
    try:
        content = yaml.safe_load(cluster.read_text(encoding="utf-8"))
        if content["provider"]["type"] == "local":
            return 1 + len(content["provider"]["worker_ips"])
        node_types = content["available_node_types"].values()
        return 1 + sum(int(node_type.get("min_workers", 0)) for node_type in node_types)
    except (OSError, yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError):
        raise StudyError(
            f"{cluster}: not a cluster file; name the file that `ray up` started"
        ) from None


def _wait_for_tunnel(port: int, log: IO[bytes], cluster: Path) -> None:
    deadline = time.monotonic() + TUNNEL_TIMEOUT_S
    lines: list[str] = []
    while time.monotonic() < deadline and TUNNEL_ENDED not in lines:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/version", timeout=5).close()
        except urllib.error.HTTPError:
            return  # the dashboard answers, even if it requires a token
        except OSError:
            time.sleep(0.2)
        else:
            return
        content = os.pread(log.fileno(), 1 << 20, 0).decode(errors="replace")
        lines = nonempty_lines(content)
    messages = [line for line in lines if line != TUNNEL_ENDED]
    reason = messages[-1].removeprefix("Error: ")[:200] if messages else "no answer"
    raise StudyError(
        f"the cluster of {cluster} cannot be reached ({reason}); start it with `ray up {cluster}`,"
        " and see `raysearch doctor`"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def nonempty_lines(text: str) -> list[str]:
    """Return the lines of `text` that are not empty, without spaces around them."""
    return [line.strip() for line in text.splitlines() if line.strip()]
