"""Studies on a cluster, from the machine that `ray up` was run on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from raysearch.cli.launch_study import Launch, show_end
from raysearch.cli.live_table import LiveView
from raysearch.cli.options import make_console
from raysearch.config.names import NAME
from raysearch.config.space_file import read_space
from raysearch.data.files import reject_login
from raysearch.errors import StudyError
from raysearch.search.engine.cluster_jobs import Job, Jobs, tunnel
from raysearch.search.study.remote_view import RemoteStudyView, mirror_of, read_message

REJECTED = "raysearch: "


def launch_on_cluster(asked: Launch, studies: str | None, cluster: Path) -> int:
    """Launch what is `asked` on the cluster of the file `cluster`, and follow it; the exit code.

    `studies` is the place of studies there, where it is not the one that the cluster file names.
    """
    if asked.dry_run:
        raise StudyError("--dry-run: a plan is made where the data is; leave --cluster out of it")
    read_space(asked.space)  # its errors are told before anything is sent
    if asked.name is not None and not NAME.fullmatch(asked.name):
        raise StudyError(
            f"--name {asked.name!r}: not a name; use letters, digits, '.', '_' and '-', 100 at most"
        )
    for option, place in (("--data", asked.data), ("--studies", studies)):
        reject_login(place or "")
        if place is not None and "://" not in place and not place.startswith(("/", "synthetic:")):
            raise StudyError(
                f"{option} {place}: a path of this machine; give one that the cluster's machines"
                " have, from / on, or an address such as s3://bucket/name"
            )
    console = make_console(stderr=asked.as_json)
    # The cluster forgets its jobs with `ray down`, and the studies' place does not.
    new = asked.space.stem + ("" if asked.resume else time.strftime("-%Y%m%d-%H%M%S"))
    name = asked.name or new
    with tunnel(cluster, console.print) as jobs:
        job = jobs.launch(name, asked.space, _words(asked, studies, name))
        console.print(f"Launched {name}; Ctrl-C leaves it running")
        return Follower(jobs, cluster, console, asked.as_json).follow(job)


def _words(asked: Launch, studies: str | None, name: str) -> list[str]:
    """The command that the head runs."""
    words = ["launch", asked.space.name, "--events", "--name", name]
    options = {
        "--data": asked.data,
        "--trials": asked.trials,
        "--seed": asked.seed,
        "--studies": studies,
    }
    for option, value in options.items():
        words += [] if value is None else [option, str(value)]
    return [*words, "--resume"] if asked.resume else words


@dataclass(frozen=True)
class Follower:
    """Shows launches on the cluster of the file `cluster`."""

    jobs: Jobs
    cluster: Path
    console: Console
    as_json: bool = False

    def follow(self, job: Job) -> int:
        """Show the live table of `job` until it ends, then its outcome; the exit code.

        Ctrl-C leaves the job running, and is no error.
        """
        told = _Told()
        try:
            with LiveView(self.console) as view:
                for line in self.jobs.lines(job.id):
                    told.take(line, view)
        except KeyboardInterrupt:
            return self._leave(job)
        if told.mirror is not None and told.end is not None:
            plan, history = told.mirror.plan, told.mirror.history
            show_end(plan, history, told.end, self.as_json, self.console)
            return 0
        if told.rejected:
            raise StudyError(told.rejected)
        now = self.jobs.again(job)
        return self._show_stopped(now, told) if now.over else self._leave(job)

    def _leave(self, job: Job) -> int:
        self._say(
            f"{job.study} goes on. To see it again:"
            f" raysearch attach {job.study} --cluster {self.cluster}"
        )
        return 0

    def _show_stopped(self, job: Job, told: _Told) -> int:
        text = f"{job.study}: {job.status.lower()}. "
        if told.mirror is not None:
            text += (
                "What it had reported is saved; to go on, launch it again with"
                f" --name {job.study} --resume"
            )
        else:
            text += (job.message.strip().splitlines() or ["It said nothing"])[-1][:300]
        self._say(text)
        return job.code or 1

    def _say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)


class _Told:
    """What the lines of a launch have told up to now."""

    def __init__(self) -> None:
        self.mirror: RemoteStudyView | None = None
        self.end: dict[str, Any] | None = None
        self.rejected = ""

    def take(self, line: str, view: LiveView) -> None:
        match read_message(line):
            case ("phase", text):
                view.phase(text)
            case ("plan", plan):
                self.mirror = mirror_of(plan)
                view.study(self.mirror)
            case ("event", event) if self.mirror is not None:
                self.mirror.take(event)
            case ("end", outcome):
                self.end = outcome
            case None if line.startswith(REJECTED):
                self.rejected = line.removeprefix(REJECTED)


def latest(jobs: Jobs, study: str) -> tuple[Job, RemoteStudyView | None]:
    """The newest launch of `study` that opened it, with what it tells; else the newest of all."""
    launches = jobs.all_of_study(study)
    for job in reversed(launches):
        mirror = story(jobs, job)
        if mirror is not None or not job.over:
            return job, mirror
    return launches[-1], None


def story(jobs: Jobs, job: Job) -> RemoteStudyView | None:
    """What the log of `job` tells up to now; None before its study was open."""
    mirror: RemoteStudyView | None = None
    for line in jobs.log(job.id):
        match read_message(line):
            case ("plan", plan):
                mirror = mirror_of(plan)
            case ("event", event) if mirror is not None:
                mirror.take(event)
    return mirror
