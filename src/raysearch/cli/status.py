"""`raysearch status`: prints where the studies of a folder, or of a cluster, stand."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from raysearch.cli.json_output import print_json
from raysearch.cli.options import (
    STUDIES,
    JsonOption,
    OnOption,
    StudiesOption,
    chosen_cluster,
    make_console,
)
from raysearch.config.run_location import RemoteCluster


def status(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="A study. Default: all studies.")] = None,
    studies: StudiesOption = STUDIES,
    on: OnOption = None,
    as_json: JsonOption = False,
) -> int:
    """Print where a study stands, on this machine or a cluster.

    A study is starting, running, interrupted or ended. Its leaderboard follows.

    Example: `raysearch status quickstart`
    """
    console = make_console(stderr=as_json)
    cluster = chosen_cluster(context, on)
    if cluster is not None:
        return _cluster_status(name, cluster, console, as_json)
    if name is None:
        from raysearch.cli.studies import print_studies

        return print_studies(studies, as_json)
    return _local_status(name, studies, console, as_json)


def _local_status(name: str, studies: str, console: Console, as_json: bool) -> int:
    from raysearch.cli.leaderboard_table import show_leaderboard
    from raysearch.cli.local_study import local_study, state_text
    from raysearch.cli.study_state import current_state
    from raysearch.search.study.slow_hosts import slow_hosts
    from raysearch.selection.stored_intervals import read_intervals

    folder = local_study(studies, name)
    summary, study = current_state(folder, folder.total_bytes())
    if study is not None and summary.state == "running":
        from raysearch.cli.live_estimate import estimated_remaining

        summary = replace(
            summary,
            remaining=estimated_remaining(study),
            slow_hosts=tuple(slow_hosts(study.history)),
        )
    if as_json:
        from raysearch.cli.time_text import remaining_json

        left = summary.remaining
        print_json(asdict(summary) | {"remaining": None if left is None else remaining_json(left)})
        return 0
    console.print(state_text(folder, summary), soft_wrap=True, markup=False, highlight=False)
    if study is not None:
        intervals = read_intervals(folder, study.history)
        show_leaderboard(study.plan, study.history, console, intervals=intervals)
    return 0


def _cluster_status(
    name: str | None, cluster: RemoteCluster, console: Console, as_json: bool
) -> int:
    from raysearch.cli.launch_log import LaunchLog
    from raysearch.cli.leaderboard_table import show_leaderboard
    from raysearch.cli.live_estimate import estimated_remaining
    from raysearch.cli.progress_bar import clock
    from raysearch.cli.remote_launch import newest_opened_launch
    from raysearch.cli.time_text import remaining_json, time_left_text
    from raysearch.search.engine.cluster_jobs import connected_jobs
    from raysearch.search.study.slow_hosts import slow_hosts

    with connected_jobs(cluster, console.print) as jobs:
        job, log = (None, LaunchLog()) if name is None else newest_opened_launch(jobs, name)
        launches = jobs.launches() if job is None else [job]
    study = log.snapshot()
    is_running = study is not None and job is not None and not job.is_over
    remaining = estimated_remaining(study) if study is not None and is_running else None
    slow = slow_hosts(study.history) if study is not None and is_running else []
    if as_json:
        values = None if remaining is None else remaining_json(remaining)
        hosts = [asdict(host) for host in slow]
        launch_values = [asdict(job) for job in launches]
        print_json({"launches": launch_values, "remaining": values, "slow_hosts": hosts})
        return 0
    table = Table("study", "launch", "state", "time")
    for job in launches:
        elapsed_s = (job.ended or time.time()) - job.started
        table.add_row(job.study, job.id, job.status.lower(), clock(elapsed_s))
    console.print(table)
    if study is not None:
        if remaining is not None:
            console.print(f"{study.plan.name}: {time_left_text(remaining)}")
        for host in slow:
            console.print(f"{study.plan.name}: {host}", markup=False, highlight=False)
        show_leaderboard(study.plan, study.history, console, intervals=log.intervals())
    return 0
