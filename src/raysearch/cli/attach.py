"""`raysearch attach`: follows a study that runs on a cluster."""

from __future__ import annotations

from raysearch.cli.options import CLUSTER, ClusterOption, StudyArgument, make_console


def attach(name: StudyArgument, cluster: ClusterOption = CLUSTER) -> int:
    """Show the live table of a study on a cluster; Ctrl-C leaves the study running.

    Example: `raysearch attach quickstart --cluster cluster.yaml`
    """
    from raysearch.cli.remote_launch import Follower, newest_opened_launch
    from raysearch.search.engine.cluster_jobs import cluster_tunnel

    console = make_console()
    with cluster_tunnel(cluster, console.print) as jobs:
        job, _study = newest_opened_launch(jobs, name)
        return Follower(jobs, cluster, console).follow(job)
