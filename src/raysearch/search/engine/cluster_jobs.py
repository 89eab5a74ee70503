"""Studies as jobs of a running cluster, reached through the tunnel that `ray` itself opens."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import aiohttp
import yaml
from ray._raylet import Config  # type: ignore[attr-defined]
from ray.exceptions import RayError
from ray.job_submission import JobStatus, JobSubmissionClient
from requests import RequestException

from raysearch.errors import StudyError

DASHBOARD_PORT = 8265
TUNNEL_S = 60.0
# The cluster files let a job this long to save what it has; see RAY_JOB_STOP_WAIT_TIME_S there.
STOP_S = 120.0
STUDY = "raysearch-study"
CLOSE_S = 5.0
TUNNEL_ENDED = "raysearch-tunnel-ended"


@dataclass(frozen=True)
class Job:
    """One launch of a study on a cluster."""

    id: str
    study: str
    status: str
    began: float
    ended: float | None
    code: int | None
    message: str

    @property
    def over(self) -> bool:
        """Whether it has ended, however."""
        return bool(JobStatus(self.status).is_terminal())


class Jobs:
    """The jobs of the cluster whose dashboard answers at `address`."""

    def __init__(self, address: str) -> None:
        # Ray would take RAY_ADDRESS before what it is given, but takes this before both.
        os.environ["RAY_API_SERVER_ADDRESS"] = address
        logging.getLogger("ray").setLevel(logging.WARNING)  # the view of the study is ours
        with _one_line_errors():
            self._client = JobSubmissionClient(address)

    def launches(self) -> list[Job]:
        """Every launch of a study that the cluster remembers, the newest last."""
        with _one_line_errors():
            found = [one for one in self._client.list_jobs() if STUDY in (one.metadata or {})]
        return sorted(map(_job, found), key=lambda job: job.began)

    def of_study(self, study: str) -> Job:
        """The newest launch of `study`; StudyError where there is none."""
        return self.all_of_study(study)[-1]

    def all_of_study(self, study: str) -> list[Job]:
        """Every launch of `study`, the newest last; StudyError where there is none."""
        found = self.launches()
        mine = [job for job in found if job.study == study]
        if not mine:
            names = ", ".join(dict.fromkeys(job.study for job in found)) or "none yet"
            raise StudyError(f"no study {study!r} was launched on this cluster; there are: {names}")
        return mine

    def launch(self, study: str, space: Path, words: Sequence[str]) -> Job:
        """Launch `study` on the head with `raysearch WORDS`, `space` lying in its folder.

        StudyError where a launch of it still runs.
        """
        before = [job for job in self.launches() if job.study == study]
        if before and not before[-1].over:
            raise StudyError(
                f"study {study!r} is running on this cluster; follow it with `raysearch attach"
                f" {study}`, or end it with `raysearch stop {study}`"
            )
        with tempfile.TemporaryDirectory(prefix="raysearch-") as folder, _one_line_errors():
            shutil.copy(space, Path(folder) / space.name)
            self._client.submit_job(
                entrypoint=shlex.join(["raysearch", *words]),
                submission_id=f"raysearch-{study}-{len(before) + 1}",
                metadata={STUDY: study},
                runtime_env={"working_dir": folder},
            )
        return self.of_study(study)

    def run(self, words: Sequence[str]) -> Iterator[str]:
        """The lines that `raysearch WORDS` prints on the head."""
        with _one_line_errors():
            job = self._client.submit_job(entrypoint=shlex.join(["raysearch", *words]))
        yield from self.lines(job)

    def again(self, job: Job) -> Job:
        """`job` as it is now."""
        with _one_line_errors():
            return _job(self._client.get_job_info(job.id))

    def stop(self, job: Job) -> Job:
        """End `job` as a SIGTERM does, with everything saved; the job as it then is."""
        with _one_line_errors():
            self._client.stop_job(job.id)
        until = time.monotonic() + STOP_S
        while not (now := self.again(job)).over:
            if time.monotonic() > until:
                raise StudyError(f"study {job.study!r} does not stop; look at it in the dashboard")
            time.sleep(0.5)
        return now

    def log(self, job_id: str) -> list[str]:
        """The lines of a job's log up to now."""
        with _one_line_errors():
            return str(self._client.get_job_logs(job_id)).splitlines()

    def lines(self, job_id: str) -> Iterator[str]:
        """The log of a job, line by line from its first, as it grows, until the job has ended.

        To be read in the main thread, whose SIGINT raises KeyboardInterrupt here meanwhile.
        """
        loop, before = asyncio.new_event_loop(), signal.getsignal(signal.SIGINT)
        # A KeyboardInterrupt in the middle of aiohttp's own work can get lost; a signal told to the
        # loop cannot.
        interrupted = loop.create_future()
        loop.add_signal_handler(signal.SIGINT, _once, interrupted)
        chunks = self._client.tail_job_logs(job_id)
        rest = ""
        try:
            while True:
                waiting = loop.create_task(_next(chunks))
                loop.run_until_complete(
                    asyncio.wait({waiting, interrupted}, return_when=asyncio.FIRST_COMPLETED)
                )
                if interrupted.done():
                    _give_up(loop, waiting)
                    raise KeyboardInterrupt
                try:
                    rest += waiting.result()
                except StopAsyncIteration:
                    break
                except (RuntimeError, aiohttp.ClientError, OSError) as error:
                    raise StudyError(
                        f"the connection to the cluster was lost ({error}); what was launched goes"
                        " on: come back with `raysearch attach`"
                    ) from None
                *whole, rest = rest.split("\n")
                yield from whole
            if rest:
                yield rest
        finally:
            _give_up(loop, loop.create_task(_close(chunks)), CLOSE_S)
            loop.remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, before)
            loop.close()


def _once(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _give_up(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any], after_s: float = 0) -> None:
    """Let `task` end by itself for `after_s`, then cancel it; no more than `CLOSE_S` for that.

    Whoever presses Ctrl-C waits for no connection that does not close.
    """
    if after_s:
        loop.run_until_complete(asyncio.wait({task}, timeout=after_s))
    task.cancel()
    loop.run_until_complete(asyncio.wait({task}, timeout=CLOSE_S))
    if task.done() and not task.cancelled():
        task.exception()


async def _close(chunks: AsyncIterator[str]) -> None:
    with suppress(RuntimeError):  # it is still at work where it did not let itself be cancelled
        await cast(AsyncGenerator[str, None], chunks).aclose()


async def _next(chunks: AsyncIterator[str]) -> str:
    return await anext(chunks)


def _job(found: Any) -> Job:
    return Job(
        id=found.submission_id,
        study=(found.metadata or {}).get(STUDY, ""),
        status=str(found.status.value),
        began=(found.start_time or 0) / 1000,
        ended=found.end_time / 1000 if found.end_time else None,
        code=found.driver_exit_code,
        message=found.message or "",
    )


@contextmanager
def tunnel(cluster: Path, say: Callable[[str], None]) -> Iterator[Jobs]:
    """The jobs of the running cluster that `ray up` made of the file `cluster`.

    StudyError where it cannot be reached.
    """
    if not cluster.is_file():
        raise StudyError(f"{cluster}: no such file; give the file that `ray up` was given")
    use_token()
    port = _free_port()
    command = [str(Path(sys.executable).with_name("ray")), "dashboard", str(cluster)]
    command += ["--port", str(port), "--remote-port", str(DASHBOARD_PORT)]
    say(f"connecting to the cluster of {cluster}")
    with tempfile.TemporaryFile() as log:
        # It ends with us, however we end: the pipe that it reads from is closed then.
        ending = f"{shlex.join(command)} < /dev/null; echo; echo {TUNNEL_ENDED}"
        guarded = f"({ending}) & cat > /dev/null; kill 0"
        process = subprocess.Popen(  # noqa: S603 our own interpreter's ray
            ["/bin/sh", "-c", guarded],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _await_answer(port, log, cluster)
            yield Jobs(f"http://127.0.0.1:{port}")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.communicate()


def use_token() -> None:
    """Have Ray's requests carry the token of this user, where there is one."""
    if (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        Config.initialize("")  # Ray read its settings when it was imported


def machines_of(cluster: Path) -> int:
    """How many machines `ray up` brings up at once of the file `cluster`, the head among them."""
    try:
        tree = yaml.safe_load(cluster.read_text(encoding="utf-8"))
        if tree["provider"]["type"] == "local":
            return 1 + len(tree["provider"]["worker_ips"])
        types = tree["available_node_types"].values()
        return 1 + sum(int(one.get("min_workers", 0)) for one in types)
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        raise StudyError(
            f"{cluster}: no cluster file; give the one that `ray up` was given"
        ) from None


def _await_answer(port: int, log: Any, cluster: Path) -> None:
    until = time.monotonic() + TUNNEL_S
    said: list[str] = []
    while time.monotonic() < until and TUNNEL_ENDED not in said:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/version", timeout=5).close()
        except urllib.error.HTTPError:
            return  # it answers, if only that it wants a token
        except OSError:
            time.sleep(0.2)
        else:
            return
        written = os.pread(log.fileno(), 1 << 20, 0).decode(errors="replace").splitlines()
        said = [line.strip() for line in written if line.strip()]
    reasons = [line for line in said if line != TUNNEL_ENDED]
    reason = reasons[-1].removeprefix("Error: ")[:200] if reasons else "no answer"
    raise StudyError(
        f"the cluster of {cluster} cannot be reached ({reason}); start it with `ray up {cluster}`,"
        " and see `raysearch doctor`"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """What the job API raises, as one line for the user."""
    try:
        yield
    except (RuntimeError, ConnectionError, ValueError, RayError, RequestException) as error:
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = said[-1][:300] if said else type(error).__name__
        raise StudyError(
            f"the cluster rejected ({reason}); see `raysearch doctor --cluster`"
        ) from None
