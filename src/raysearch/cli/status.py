"""`raysearch status`: lists the studies that were launched on a cluster."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from raysearch.cli.options import CLUSTER, ClusterOption, JsonOption, make_console


def status(
    name: Annotated[str | None, typer.Argument(help="A study. Default: all studies.")] = None,
    cluster: ClusterOption = CLUSTER,
    as_json: JsonOption = False,
) -> int:
    """Print the launches on a cluster; for one study, also its current leaderboard.

    Example: `raysearch status --cluster cluster.yaml`
    """
    from raysearch.cli.leaderboard_table import leaderboard_table
    from raysearch.cli.live_table import clock
    from raysearch.cli.remote_launch import newest_opened_launch
    from raysearch.search.engine.cluster_jobs import cluster_tunnel

    console = make_console(stderr=as_json)
    with cluster_tunnel(cluster, console.print) as jobs:
        job, study = (None, None) if name is None else newest_opened_launch(jobs, name)
        launches = jobs.launches() if job is None else [job]
    if as_json:
        sys.stdout.write(json.dumps([asdict(job) for job in launches]) + "\n")
        return 0
    table = Table("study", "launch", "state", "time")
    for job in launches:
        elapsed_s = (job.ended or time.time()) - job.started
        table.add_row(job.study, job.id, job.status.lower(), clock(elapsed_s))
    console.print(table)
    if study is not None:
        console.print(leaderboard_table(study.plan, study.history, console.width))
    return 0
