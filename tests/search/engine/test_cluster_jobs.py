"""Following a study on a cluster whose connection does not close."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import ray
from aiohttp import web

from raysearch.search.engine.cluster_jobs import CLOSE_S

FOLLOW = """
import signal, sys
from raysearch.search.engine.cluster_jobs import Jobs
before = lambda signum, frame: None
signal.signal(signal.SIGINT, before)
jobs = Jobs(sys.argv[1])
try:
    for line in jobs.lines("one"):
        print(line, flush=True)
except KeyboardInterrupt:
    sys.exit(130 if signal.getsignal(signal.SIGINT) is before else 1)
"""


async def version(_request: web.Request) -> web.Response:
    return web.json_response({"ray_version": ray.__version__})


@pytest.fixture
def dashboard() -> Iterator[str]:
    """The address of a server that sends the first lines of a log, and then nothing, ever.

    It reads nothing either: who wants to close its connection gets no answer.
    """
    ready, over, found = threading.Event(), threading.Event(), []

    async def tail(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("first\nsecond\nthi")
        await loop.run_in_executor(None, over.wait)
        return socket

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/api/version", version)
        app.router.add_get("/api/jobs/one/logs/tail", tail)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        found.append(runner.addresses[0][1])
        ready.set()
        await loop.run_in_executor(None, over.wait)
        await runner.cleanup()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield f"http://127.0.0.1:{found[0]}"
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
        began = time.monotonic()
        follower.send_signal(signal.SIGINT)
        rest, said = follower.communicate(timeout=60)
        took = time.monotonic() - began
    assert (follower.returncode, rest, said) == (130, "", "")
    assert took < CLOSE_S
