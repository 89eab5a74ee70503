"""Runs studies as jobs of a remote cluster: of `ray up`, or of somebody else."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
import shutil
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import aiohttp
from ray.exceptions import RayError
from ray.job_submission import JobStatus, JobSubmissionClient
from requests import RequestException

from raysearch.config.code_importer import CodeFile
from raysearch.config.run_location import RemoteCluster
from raysearch.data.scratch_folder import scratch_folder
from raysearch.errors import StudyError, first_line
from raysearch.search.engine.cluster_tunnel import cluster_tunnel, nonempty_lines, use_token
from raysearch.search.engine.job_package import job_package, job_program, job_variables

# The cluster files give a job this much time to save its state; see RAY_JOB_STOP_WAIT_TIME_S there.
STOP_TIMEOUT_S = 120.0
# The keys of a job's metadata that hold the name of the study, and the folder of all studies.
STUDY, STUDIES = "raysearch-study", "raysearch-studies"
CLOSE_TIMEOUT_S = 5.0
TOKEN_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
# What logs the requests; the last two have levels of their own.
LOGGERS = ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")


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
        studies: The folder of all studies; empty for the one that the machines name.
    """

    id: str
    study: str
    status: str
    started: float
    ended: float | None
    exit_code: int | None
    message: str
    studies: str = ""

    @property
    def is_over(self) -> bool:
        """Whether it has ended, with success or without."""
        return bool(JobStatus(self.status).is_terminal())


class ClusterJobs:
    """The jobs of a cluster.

    Args:
        address: Address of the cluster's dashboard.
        cluster: The cluster. Of `ray up`, its machines have raysearch; to one of somebody else,
            each job brings it.
    """

    def __init__(self, address: str, cluster: RemoteCluster) -> None:
        self._option, self._brings_package = cluster.option, cluster.is_address
        # Ray prefers RAY_ADDRESS to its argument, and this variable to both.
        os.environ["RAY_API_SERVER_ADDRESS"] = address
        for name in LOGGERS:  # the live table shows the study
            logging.getLogger(name).setLevel(logging.WARNING)
        with _one_line_errors(self._option):
            self._client = JobSubmissionClient(address, headers=_headers())

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
        studies: str | None = None,
    ) -> Job:
        """Launch a study on the head.

        Args:
            study: Its name.
            space: Its search-space file, which is copied into the job's working directory; None
                for the default of the head.
            command: The arguments of `raysearch` on the head.
            code: The modules of the user's beside that file, which are copied, too.
            studies: The folder of all studies, which later commands use; None for that of the head.

        Raises:
            StudyError: If a launch of the study is running.
        """
        earlier = [job for job in self.launches() if job.study == study]
        if earlier and not earlier[-1].is_over:
            raise StudyError(
                f"study {study!r} is running on this cluster; follow it with `raysearch attach"
                f" {study} {self._option}`, or end it with `raysearch stop {study} {self._option}`"
            )
        with scratch_folder() as folder:
            if space is not None:
                shutil.copy(space, folder / space.name)
                for file in code:
                    path = folder / file.path
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(file.text, encoding="utf-8")
            name = f"raysearch-{study}-{len(earlier) + 1}"
            self._submit(
                command,
                None if space is None else folder,
                name,
                {STUDY: study, STUDIES: studies or ""},
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

    def _submit(
        self,
        command: Sequence[str],
        working_dir: Path | None = None,
        name: str | None = None,
        metadata: dict[str, str] | None = None,
    ) -> str:
        """Start `raysearch` with the arguments `command` on the head; return the job's name."""
        runtime_env: dict[str, object] = {}
        if working_dir is not None:
            runtime_env["working_dir"] = str(working_dir)
        with scratch_folder() as folder, _one_line_errors(self._option):
            if self._brings_package:
                runtime_env["py_modules"] = [str(path) for path in job_package(folder)]
                runtime_env["env_vars"] = job_variables()
            job_id = self._client.submit_job(
                entrypoint=shlex.join([*job_program(self._brings_package), *command]),
                submission_id=name,
                metadata=metadata,
                runtime_env=runtime_env,
            )
        return str(job_id)

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
        studies=(record.metadata or {}).get(STUDIES, ""),
    )


@contextmanager
def connected_jobs(
    cluster: RemoteCluster, on_status: Callable[[str], None]
) -> Iterator[ClusterJobs]:
    """Connect to a cluster; give its jobs.

    Args:
        cluster: The cluster.
        on_status: Called with a line of text before the connection opens.

    Raises:
        StudyError: If the cluster cannot be reached, or its ssh connections are not safe.
    """
    if cluster.is_address:
        # The token of this user's own clusters is not sent to another one, unless Ray's variables
        # say so.
        if any(os.environ.get(name) for name in TOKEN_VARIABLES):
            use_token()
        on_status(f"connecting to {cluster}")
        yield ClusterJobs(cluster.place, cluster)
        return
    use_token()
    with cluster_tunnel(Path(cluster.place), on_status) as address:
        yield ClusterJobs(address, cluster)


def _headers() -> dict[str, str]:
    """Return the HTTP headers of RAY_JOB_HEADERS, as `ray job` sends them."""
    text = os.environ.get("RAY_JOB_HEADERS") or "{}"
    try:
        return {str(name): str(value) for name, value in json.loads(text).items()}
    except (ValueError, AttributeError):
        raise StudyError(
            'RAY_JOB_HEADERS: not a JSON object of HTTP headers, such as {"Authorization": "..."}'
        ) from None


@contextmanager
def _one_line_errors(option: str) -> Iterator[None]:
    """Convert the exceptions of the job API to a StudyError of one line."""
    try:
        yield
    except ConnectionError as error:
        raise StudyError(
            f"the cluster of {option} does not answer ({first_line(error)}); check that it runs,"
            " and that this machine reaches it"
        ) from None
    except (RuntimeError, ValueError, RayError, RequestException) as error:
        lines = nonempty_lines(str(error))
        reason = lines[-1][:300] if lines else type(error).__name__
        raise StudyError(
            f"the cluster rejected the request ({reason}); see `raysearch doctor {option}`"
        ) from None
