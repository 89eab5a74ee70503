"""`raysearch attach`: follow a study that runs on a cluster."""

from __future__ import annotations

from raysearch.cli.options import CLUSTER, ClusterOption, StudyArgument, make_console


def attach(name: StudyArgument, cluster: ClusterOption = CLUSTER) -> int:
    """Show the live table of a study on a cluster; Ctrl-C leaves it running.

    Example: `raysearch attach quickstart --cluster cluster.yaml`
    """
    from raysearch.cli.remote_launch import Follower, latest
    from raysearch.search.engine.cluster_jobs import tunnel

    console = make_console()
    with tunnel(cluster, console.print) as jobs:
        return Follower(jobs, cluster, console).follow(latest(jobs, name)[0])
