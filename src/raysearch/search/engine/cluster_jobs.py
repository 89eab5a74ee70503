"""Runs studies as jobs of a remote cluster, through the tunnel that `ray dashboard` opens."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import aiohttp
import yaml
from ray._raylet import Config  # type: ignore[attr-defined]
from ray.exceptions import RayError
from ray.job_submission import JobStatus, JobSubmissionClient
from requests import RequestException

from raysearch.config.code_importer import CodeFile
from raysearch.data.scratch_folder import scratch_folder
from raysearch.errors import StudyError
from raysearch.search.engine.cluster_ssh import ray_program, ssh_environment
from raysearch.search.engine.local_ray import TOKEN_FILE, restrict_token_file

DASHBOARD_PORT = 8265
TUNNEL_TIMEOUT_S = 60.0
# The cluster files give a job this much time to save its state; see RAY_JOB_STOP_WAIT_TIME_S there.
STOP_TIMEOUT_S = 120.0
# The key of a job's metadata that holds the study's name.
STUDY = "raysearch-study"
CLOSE_TIMEOUT_S = 5.0
TUNNEL_ENDED = "raysearch-tunnel-ended"


@dataclass(frozen=True)
class Job:
    """One launch of a study on a cluster.

    Attributes:
        id: Ray's name of the job.
        study: Name of the study.
        status: Ray's status, such as RUNNING.
        started: Start in seconds since the epoch.
        ended: End in seconds since the epoch; None while it runs.
        exit_code: Exit code of its process; None while it runs.
        message: Ray's message about its end.
    """

    id: str
    study: str
    status: str
    started: float
    ended: float | None
    exit_code: int | None
    message: str

    @property
    def is_over(self) -> bool:
        """Whether it has ended, with success or without."""
        return bool(JobStatus(self.status).is_terminal())


class ClusterJobs:
    """The jobs of a cluster.

    Args:
        address: Address of the cluster's dashboard.
        cluster: The cluster file, for the commands that messages name.
    """

    def __init__(self, address: str, cluster: Path) -> None:
        self._option = f"--cluster {shlex.quote(str(cluster))}"
        # Ray prefers RAY_ADDRESS to its argument, and this variable to both.
        os.environ["RAY_API_SERVER_ADDRESS"] = address
        logging.getLogger("ray").setLevel(logging.WARNING)  # the live table shows the study
        with _one_line_errors(self._option):
            self._client = JobSubmissionClient(address)

    def launches(self) -> list[Job]:
        """Return every launch of a study that the cluster remembers, the newest last."""
        with _one_line_errors(self._option):
            records = [job for job in self._client.list_jobs() if STUDY in (job.metadata or {})]
        return sorted(map(_job_from_ray, records), key=lambda job: job.started)

    def newest_of_study(self, study: str) -> Job:
        """Return the newest launch of `study`; StudyError if there is none."""
        return self.all_of_study(study)[-1]

    def all_of_study(self, study: str) -> list[Job]:
        """Return every launch of `study`, the newest last; StudyError if there is none."""
        launches = self.launches()
        jobs = [job for job in launches if job.study == study]
        if not jobs:
            names = ", ".join(dict.fromkeys(job.study for job in launches)) or "none"
            raise StudyError(
                f"study {study!r} was not launched on this cluster; its studies: {names}"
            )
        return jobs

    def launch(
        self,
        study: str,
        space: Path | None,
        command: Sequence[str],
        code: Sequence[CodeFile] = (),
    ) -> Job:
        """Launch a study on the head.

        Args:
            study: Its name.
            space: Its search-space file, which is copied into the job's working directory; None
                for the default of the head.
            command: The arguments of `raysearch` on the head.
            code: The modules of the user's beside that file, which are copied, too.

        Raises:
            StudyError: If a launch of the study is running.
        """
        earlier = [job for job in self.launches() if job.study == study]
        if earlier and not earlier[-1].is_over:
            raise StudyError(
                f"study {study!r} is running on this cluster; follow it with `raysearch attach"
                f" {study} {self._option}`, or end it with `raysearch stop {study} {self._option}`"
            )
        with scratch_folder() as folder, _one_line_errors(self._option):
            runtime_env = {}
            if space is not None:
                shutil.copy(space, folder / space.name)
                for file in code:
                    path = folder / file.path
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(file.text, encoding="utf-8")
                runtime_env["working_dir"] = str(folder)
            self._client.submit_job(
                entrypoint=shlex.join(["raysearch", *command]),
                submission_id=f"raysearch-{study}-{len(earlier) + 1}",
                metadata={STUDY: study},
                runtime_env=runtime_env,
            )
        return self.newest_of_study(study)

    def run(self, command: Sequence[str]) -> Iterator[str]:
        """Run `raysearch` with the arguments `command` on the head; yield the lines it prints."""
        yield from self.follow_log(self._submit(command))

    def run_to_end(self, command: Sequence[str]) -> tuple[list[str], bool]:
        """Run `raysearch` with the arguments `command` on the head.

        Returns:
            The lines that it prints, and whether its exit code is 0.
        """
        job_id = self._submit(command)
        lines = list(self.follow_log(job_id))
        with _one_line_errors(self._option):
            return lines, self._client.get_job_status(job_id) == JobStatus.SUCCEEDED

    def _submit(self, command: Sequence[str]) -> str:
        """Start `raysearch` with the arguments `command` on the head; return the job's name."""
        with _one_line_errors(self._option):
            return str(self._client.submit_job(entrypoint=shlex.join(["raysearch", *command])))

    def refresh(self, job: Job) -> Job:
        """Return the current state of `job`."""
        with _one_line_errors(self._option):
            return _job_from_ray(self._client.get_job_info(job.id))

    def stop(self, job: Job) -> Job:
        """End `job` by SIGTERM, upon which it saves its state; return its final state."""
        with _one_line_errors(self._option):
            self._client.stop_job(job.id)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while not (current := self.refresh(job)).is_over:
            if time.monotonic() > deadline:
                raise StudyError(f"study {job.study!r} does not stop; see it in the dashboard")
            time.sleep(0.5)
        return current

    def log(self, job_id: str) -> list[str]:
        """Return the lines of a job's log so far."""
        with _one_line_errors(self._option):
            return str(self._client.get_job_logs(job_id)).splitlines()

    def follow_log(self, job_id: str, study: str = "NAME") -> Iterator[str]:
        """Yield the lines of a job's log from the first one on, until the job has ended.

        `study` is the name of its study, for the message of a lost connection.

        It must run in the main thread. There, SIGINT raises KeyboardInterrupt meanwhile.
        """
        loop, previous_handler = asyncio.new_event_loop(), signal.getsignal(signal.SIGINT)
        # A KeyboardInterrupt inside aiohttp can get lost; a signal that the loop handles cannot.
        interrupted = loop.create_future()
        loop.add_signal_handler(signal.SIGINT, _set_once, interrupted)
        chunks = self._client.tail_job_logs(job_id)
        partial_line = ""
        try:
            while True:
                chunk = loop.create_task(_next_chunk(chunks))
                loop.run_until_complete(
                    asyncio.wait({chunk, interrupted}, return_when=asyncio.FIRST_COMPLETED)
                )
                if interrupted.done():
                    _cancel(loop, chunk)
                    raise KeyboardInterrupt
                try:
                    partial_line += chunk.result()
                except StopAsyncIteration:
                    break
                except (RuntimeError, aiohttp.ClientError, OSError) as error:
                    raise StudyError(
                        f"the connection to the cluster was lost ({error}); the launched study"
                        f" continues: follow it with `raysearch attach {study} {self._option}`"
                    ) from None
                *lines, partial_line = partial_line.split("\n")
                yield from lines
            if partial_line:
                yield partial_line
        finally:
            _cancel(loop, loop.create_task(_close(chunks)), CLOSE_TIMEOUT_S)
            loop.remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, previous_handler)
            loop.close()


def _set_once(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _cancel(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any], after_s: float = 0) -> None:
    """Wait `after_s` for `task`, then cancel it; wait at most `CLOSE_TIMEOUT_S` for the end.

    A user who presses Ctrl-C must not wait for a connection that does not close.
    """
    if after_s:
        loop.run_until_complete(asyncio.wait({task}, timeout=after_s))
    task.cancel()
    loop.run_until_complete(asyncio.wait({task}, timeout=CLOSE_TIMEOUT_S))
    if task.done() and not task.cancelled():
        task.exception()


async def _close(chunks: AsyncIterator[str]) -> None:
    with suppress(RuntimeError):  # the generator still runs if its task could not be cancelled
        await cast(AsyncGenerator[str, None], chunks).aclose()


async def _next_chunk(chunks: AsyncIterator[str]) -> str:
    return await anext(chunks)


def _job_from_ray(record: Any) -> Job:
    return Job(
        id=record.submission_id,
        study=(record.metadata or {}).get(STUDY, ""),
        status=str(record.status.value),
        started=(record.start_time or 0) / 1000,
        ended=record.end_time / 1000 if record.end_time else None,
        exit_code=record.driver_exit_code,
        message=record.message or "",
    )


@contextmanager
def cluster_tunnel(cluster: Path, on_status: Callable[[str], None]) -> Iterator[ClusterJobs]:
    """Connect to the running cluster that `ray up` started; give its jobs.

    Args:
        cluster: The cluster file.
        on_status: Called with a line of text before the connection opens.

    Raises:
        StudyError: If the cluster cannot be reached, or its ssh connections are not safe.
    """
    if not cluster.is_file():
        raise StudyError(f"{cluster}: no such file; name the file that `ray up` started")
    use_token()
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
            yield ClusterJobs(f"http://127.0.0.1:{port}", cluster)
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
        lines = _nonempty_lines(content)
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


def _nonempty_lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


@contextmanager
def _one_line_errors(option: str) -> Iterator[None]:
    """Convert the exceptions of the job API to a StudyError of one line."""
    try:
        yield
    except (RuntimeError, ConnectionError, ValueError, RayError, RequestException) as error:
        lines = _nonempty_lines(str(error))
        reason = lines[-1][:300] if lines else type(error).__name__
        raise StudyError(
            f"the cluster rejected the request ({reason}); see `raysearch doctor {option}`"
        ) from None
