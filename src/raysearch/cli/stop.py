"""`raysearch stop`: ends a study that runs on a cluster, after its state is saved."""

from __future__ import annotations

from raysearch.cli.options import CLUSTER, INTERRUPTED, ClusterOption, StudyArgument, make_console


def stop(name: StudyArgument, cluster: ClusterOption = CLUSTER) -> int:
    """Stop a study on a cluster; `launch --cluster ... --resume` resumes it.

    Example: `raysearch stop quickstart --cluster cluster.yaml`
    """
    from raysearch.search.engine.cluster_jobs import cluster_tunnel

    console = make_console()
    with cluster_tunnel(cluster, console.print) as jobs:
        job = jobs.newest_of_study(name)
        if job.is_over:
            console.print(f"{name} had already ended: {job.status.lower()}")
            return 0
        with console.status(f"Stopping {name}"):
            job = jobs.stop(job)
        is_saved = any(INTERRUPTED in line for line in jobs.log(job.id)[-20:])
    resume = f"Resume with: raysearch launch SPACE --cluster {cluster} --name {name} --resume"
    if job.status == "SUCCEEDED":
        text = f"{name} ended by itself; see: raysearch results {name} --cluster {cluster}"
    elif is_saved:
        text = f"{INTERRUPTED}. {resume}"
    else:
        text = f"Killed; the reported fold-epochs are saved. {resume}"
    console.print(text, soft_wrap=True, markup=False, highlight=False)
    return 0
