"""`raysearch attach`: follows a study that another process, or a cluster, runs."""

from __future__ import annotations

import typer

from raysearch.cli.options import (
    STUDIES,
    OnOption,
    StudiesOption,
    StudyArgument,
    chosen_cluster,
    make_console,
)


def attach(
    context: typer.Context,
    name: StudyArgument,
    studies: StudiesOption = STUDIES,
    on: OnOption = None,
) -> int:
    """Show the live table of a running study until Ctrl-C.

    The study goes on.

    Example: `raysearch attach quickstart --on cluster.yaml`
    """
    console = make_console()
    cluster = chosen_cluster(context, on)
    if cluster is None:
        from raysearch.cli.local_study import follow, local_study

        return follow(local_study(studies, name), console)
    from raysearch.cli.remote_launch import Follower, newest_opened_launch
    from raysearch.search.engine.cluster_jobs import connected_jobs

    with connected_jobs(cluster, console.print) as jobs:
        job, _log = newest_opened_launch(jobs, name)
        return Follower(jobs, cluster, console).follow(job)
