"""Launches and follows studies on a remote cluster."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from rich.console import Console

from raysearch.cli.launch_log import LaunchLog
from raysearch.cli.launch_space import space_stem
from raysearch.cli.launch_study import LaunchOptions
from raysearch.cli.live_table import LiveView
from raysearch.cli.options import make_console, studies_of_cluster
from raysearch.cli.study_end_text import show_end
from raysearch.config.code_importer import CodeFile
from raysearch.config.component_section import user_code
from raysearch.config.names import NAME, NO_MEMORY, OWN_STUDIES, reject_login
from raysearch.config.run_location import RemoteCluster
from raysearch.config.space_file import read_space
from raysearch.data.file_access import SHARED_GROUP
from raysearch.errors import StudyError
from raysearch.search.engine.cluster_jobs import ClusterJobs, Job, connected_jobs


def launch_on_cluster(options: LaunchOptions, studies: str | None, cluster: RemoteCluster) -> int:
    """Launch a study on a cluster, and follow it.

    Args:
        options: The options of the launch.
        studies: The folder of all studies; None for the one that the cluster file names.
        cluster: The cluster.

    Returns:
        The exit code.

    Raises:
        StudyError: If an option cannot be used on a cluster, or the cluster rejects the launch.
    """
    studies = studies_of_cluster(cluster, studies)
    _check_options(options, studies)
    if cluster.is_address and studies is None:
        raise StudyError(
            f"{cluster.option}: where are the studies? Give --studies s3://bucket/studies, or an"
            " absolute path that all machines of the cluster share"
        )
    code: tuple[CodeFile, ...] = ()
    if options.space is not None:
        # The errors of the space are reported before anything is sent.
        code = user_code(read_space(options.space, options.overrides)).files
    console = make_console(stderr=options.as_json)
    # `ray down` deletes the cluster's jobs, but not the studies: a new name must not be an old one.
    new_name = space_stem(options.space) + (
        "" if options.resume else time.strftime("-%Y%m%d-%H%M%S")
    )
    name = options.name or new_name
    with connected_jobs(cluster, console.print) as jobs:
        job = jobs.launch(name, options.space, _head_command(options, studies, name), code, studies)
        console.print(f"Launched {name}; Ctrl-C leaves it running")
        return Follower(jobs, cluster, console, options.as_json).follow(job)


def _check_options(options: LaunchOptions, studies: str | None) -> None:
    if options.name is not None and not NAME.fullmatch(options.name):
        raise StudyError(
            f"--name {options.name!r}: not a name; use at most 100 letters, digits, '.', '_', '-'"
        )
    memory = None if options.memory in (NO_MEMORY, OWN_STUDIES) else options.memory
    addresses = (("--data", options.data), ("--studies", studies), ("--memory", memory))
    for option, address in addresses:
        reject_login(address or "")
        if address is None or "://" in address or address.startswith(("/", "synthetic:")):
            continue
        raise StudyError(
            f"{option} {address}: a relative path of this machine; use an absolute path that the"
            " cluster's machines have, or an address such as s3://bucket/name"
        )


def _head_command(options: LaunchOptions, studies: str | None, name: str) -> list[str]:
    """Return the arguments of `raysearch` on the head."""
    space = [] if options.space is None else [options.space.name]
    command = ["launch", *space, *options.overrides, "--events", "--name", name]
    values = {
        "--data": options.data,
        "--trials": options.trials,
        "--seed": options.seed,
        "--memory": options.memory,
        "--studies": studies,
        "--shared": os.environ.get(SHARED_GROUP),
    }
    for option, value in values.items():
        command += [] if value is None else [option, str(value)]
    return [*command, "--resume"] if options.resume else command


@dataclass(frozen=True)
class Follower:
    """Shows the progress and the result of launches on a cluster.

    Args:
        jobs: The jobs of the cluster.
        cluster: The cluster.
        console: Where to print.
        as_json: Whether to print the result as JSON.
    """

    jobs: ClusterJobs
    cluster: RemoteCluster
    console: Console
    as_json: bool = False

    def follow(self, job: Job) -> int:
        """Show the live table of a launch until it ends, then its result; return the exit code.

        Ctrl-C leaves the study running; the exit code is then 0.
        """
        log = LaunchLog()
        try:
            with LiveView(self.console, is_local=False) as view:
                for line in self.jobs.follow_log(job.id, job.study):
                    log.read(line, view)
        except KeyboardInterrupt:
            return self._leave(job)
        if log.study is not None and log.outcome is not None:
            show_end(log.study.plan, log.study.history, log.outcome, self.as_json, self.console)
            return 0
        if log.error:
            raise StudyError(log.error)
        job = self.jobs.refresh(job)
        return self._show_failure(job, log) if job.is_over else self._leave(job)

    def _leave(self, job: Job) -> int:
        self._print(
            f"{job.study} is still running. Follow it with:"
            f" raysearch attach {job.study} {self.cluster.option}"
        )
        return 0

    def _show_failure(self, job: Job, log: LaunchLog) -> int:
        if log.study is not None:
            reason = (
                "The reported fold-epochs are saved. To resume the study, add to its launch"
                f" command: --name {job.study} --resume"
            )
        else:
            reason = (job.message.strip().splitlines() or ["no message"])[-1][:300]
        self._print(f"{job.study}: {job.status.lower()}. {reason}")
        return job.exit_code or 1

    def _print(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)


def newest_opened_launch(jobs: ClusterJobs, study: str) -> tuple[Job, LaunchLog]:
    """Return the newest launch of a study that is running or has opened it, else the newest one.

    The second value is what its log has reported.
    """
    launches = jobs.all_of_study(study)
    for job in reversed(launches):
        log = _read_log(jobs, job)
        if log.study is not None or not job.is_over:
            return job, log
    return launches[-1], LaunchLog()


def _read_log(jobs: ClusterJobs, job: Job) -> LaunchLog:
    log = LaunchLog()
    for line in jobs.log(job.id):
        log.read(line)
    return log
