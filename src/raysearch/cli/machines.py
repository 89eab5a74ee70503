"""The machines that a study uses, in words, and those that it would leave idle."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from raysearch.config.run_location import LOCAL, RemoteCluster, cluster_address
from raysearch.data.child_processes import PROC, is_running
from raysearch.errors import StudyError

# The program of Ray on each of its nodes.
RAYLET = "raylet"
# How a launch on this machine alone names the folder of its Ray; see `search.engine.local_ray`.
LAUNCH_FOLDER = b"/rs-ray-"


@dataclass(frozen=True)
class SlurmAllocation:
    """The machines that Slurm has given to this job.

    Args:
        job: Slurm's number of the job.
        num_nodes: The number of its nodes.
        nodes: Their names, as Slurm abbreviates them.
    """

    job: str
    num_nodes: int
    nodes: str


def slurm_allocation() -> SlurmAllocation | None:
    """Return the allocation of Slurm that this process runs in; None outside of one."""
    job = os.environ.get("SLURM_JOB_ID", "")
    num_nodes = os.environ.get("SLURM_JOB_NUM_NODES") or os.environ.get("SLURM_NNODES", "1")
    if not job or not num_nodes.isdecimal():
        return None
    return SlurmAllocation(job, int(num_nodes), os.environ.get("SLURM_JOB_NODELIST", ""))


def check_idle_nodes(cluster: RemoteCluster | None, place: str | None) -> None:
    """Reject a study that would use one node of an allocation of several.

    Args:
        cluster: The cluster to which the study is sent; None if it runs here.
        place: The option `--on`: `local` says that one node is meant.

    Raises:
        StudyError: If the study would leave nodes idle.
    """
    allocation = slurm_allocation()
    if cluster is not None or place == LOCAL or cluster_address() is not None:
        return
    if allocation is None or allocation.num_nodes < 2:
        return
    advice = "start Ray on all of them, as `raysearch slurm` does"
    if _ray_runs_here():
        advice = "add --on auto to use all machines of the Ray that runs here"
    raise StudyError(
        f"Slurm has given {allocation.num_nodes} nodes to job {allocation.job}"
        f" ({allocation.nodes}), and the study would use this one alone; {advice}, or add --on"
        " local to leave the others idle"
    )


def machines_text(cluster: RemoteCluster | None) -> str:
    """Return which machines a study uses, for its plan."""
    if cluster is not None:
        return f"those of {cluster}"
    address = cluster_address()
    if address is not None:
        return f"those of the Ray at {address}"
    text = f"this one alone, with {os.cpu_count()} CPUs"
    if _ray_runs_here():
        text += "; the Ray that runs here is not used, --on auto joins it"
    return text


def _ray_runs_here() -> bool:
    """Return whether a Ray of this account runs on this machine."""
    return any(
        is_running(int(entry.name), RAYLET) and _is_joinable(entry) for entry in PROC.glob("[0-9]*")
    )


def _is_joinable(process: Path) -> bool:
    """Return whether a process is of this account, and not of another launch on this machine."""
    try:
        words = (process / "cmdline").read_bytes()
        return process.stat().st_uid == os.geteuid() and LAUNCH_FOLDER not in words
    except OSError:  # it has ended
        return False
