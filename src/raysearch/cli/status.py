"""`raysearch status`: the studies that were launched on a cluster."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from raysearch.cli.options import CLUSTER, ClusterOption, make_console


def status(
    name: Annotated[str | None, typer.Argument(help="One study. Default: all of them.")] = None,
    cluster: ClusterOption = CLUSTER,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Print the launches on a cluster, and of one study its leaderboard up to now.

    Example: `raysearch status --cluster cluster.yaml`
    """
    from raysearch.cli.live_table import clock
    from raysearch.cli.remote_launch import latest
    from raysearch.cli.tables import leaderboard_table
    from raysearch.search.engine.cluster_jobs import tunnel

    console = make_console(stderr=as_json)
    with tunnel(cluster, console.print) as jobs:
        job, mirror = (None, None) if name is None else latest(jobs, name)
        found = jobs.launches() if job is None else [job]
    if as_json:
        sys.stdout.write(json.dumps([asdict(job) for job in found]) + "\n")
        return 0
    table = Table("study", "launch", "state", "time")
    for job in found:
        gone = (job.ended or time.time()) - job.began
        table.add_row(job.study, job.id, job.status.lower(), clock(gone))
    console.print(table)
    if mirror is not None:
        console.print(leaderboard_table(mirror.plan, mirror.history, console.width))
    return 0
