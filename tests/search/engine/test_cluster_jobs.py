"""Jobs of a cluster: a log that is followed over a connection that does not close."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from aiohttp import web

from raysearch.config.run_location import RemoteCluster
from raysearch.errors import StudyError
from raysearch.search.engine.cluster_jobs import CLOSE_TIMEOUT_S, STUDY, ClusterJobs

FOLLOW = """
import signal, sys
from raysearch.config.run_location import RemoteCluster
from raysearch.search.engine.cluster_jobs import ClusterJobs
handler = lambda signum, frame: None
signal.signal(signal.SIGINT, handler)
jobs = ClusterJobs(sys.argv[1], RemoteCluster("my cluster.yaml"))
try:
    for line in jobs.follow_log("job"):
        print(line, flush=True)
except KeyboardInterrupt:
    sys.exit(130 if signal.getsignal(signal.SIGINT) is handler else 1)
"""


async def version(_request: web.Request) -> web.Response:
    return web.json_response({"ray_version": ray.__version__})


async def running_jobs(_request: web.Request) -> web.Response:
    job = {"type": "SUBMISSION", "submission_id": "raysearch-x-1", "entrypoint": "raysearch"}
    return web.json_response([job | {"status": "RUNNING", "metadata": {STUDY: "x"}}])


@pytest.fixture
def dashboard() -> Iterator[str]:
    """The address of a server that sends the first lines of a log and then nothing more.

    It does not read either, so it does not answer if a client closes its connection.
    """
    ready, over, ports = threading.Event(), threading.Event(), []

    async def tail(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("first\nsecond\nthi")
        await loop.run_in_executor(None, over.wait)
        return socket

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/api/version", version)
        app.router.add_get("/api/jobs/", running_jobs)
        app.router.add_get("/api/jobs/job/logs/tail", tail)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ports.append(runner.addresses[0][1])
        ready.set()
        await loop.run_in_executor(None, over.wait)
        await runner.cleanup()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield f"http://127.0.0.1:{ports[0]}"
    over.set()
    thread.join(30)
    assert not thread.is_alive()
    loop.close()


@pytest.mark.parametrize("wait_s", [0.0, 0.5])
def test_ctrl_c_does_not_wait_for_a_connection_that_does_not_close(
    dashboard: str, wait_s: float
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FOLLOW, dashboard],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as follower:
        assert follower.stdout is not None
        assert [follower.stdout.readline() for _ in range(2)] == ["first\n", "second\n"]
        time.sleep(wait_s)
        start = time.monotonic()
        follower.send_signal(signal.SIGINT)
        out, err = follower.communicate(timeout=60)
        seconds = time.monotonic() - start
    assert (follower.returncode, out, err) == (130, "", "")
    assert seconds < CLOSE_TIMEOUT_S


def test_messages_name_the_cluster_file(dashboard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", dashboard)
    jobs = ClusterJobs(dashboard, RemoteCluster("my cluster.yaml"))
    with pytest.raises(StudyError) as running:
        jobs.launch("x", Path("x.yaml"), [])
    for command in ("attach", "stop"):
        assert f"`raysearch {command} x --on 'my cluster.yaml'`" in str(running.value)
    with pytest.raises(StudyError, match=r"see `raysearch doctor --on 'my cluster\.yaml'`"):
        jobs.log("none")
