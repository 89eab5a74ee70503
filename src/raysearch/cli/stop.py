"""`raysearch stop`: end a study that runs on a cluster, with everything saved."""

from __future__ import annotations

from raysearch.cli.options import CLUSTER, STOPPED, ClusterOption, StudyArgument, make_console


def stop(name: StudyArgument, cluster: ClusterOption = CLUSTER) -> int:
    """Stop a study on a cluster; `launch --cluster ... --resume` goes on with it.

    Example: `raysearch stop quickstart --cluster cluster.yaml`
    """
    from raysearch.search.engine.cluster_jobs import tunnel

    console = make_console()
    with tunnel(cluster, console.print) as jobs:
        job = jobs.of_study(name)
        if job.over:
            console.print(f"{name} had ended already: {job.status.lower()}")
            return 0
        with console.status(f"Stopping {name}"):
            job = jobs.stop(job)
        saved = any(STOPPED in line for line in jobs.log(job.id)[-20:])
    again = f"To go on, launch it again with --name {name} --resume"
    if job.status == "SUCCEEDED":
        say = f"{name} ended by itself; see: raysearch results {name} --cluster {cluster}"
    elif saved:
        say = f"{STOPPED}. {again}"
    else:
        say = f"Ended by force; what it had reported is saved. {again}"
    console.print(say, soft_wrap=True, markup=False, highlight=False)
    return 0
