"""Studies in jobs of a real Slurm with three nodes."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysearch.search.journal.events import FoldReport, TrialEnded
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.stored_study import load_study

from .slurm_cluster import SlurmCluster, slurm_cluster

SPACE = Path(__file__).with_name("space.yaml")
NODES = {"node1", "node2", "node3"}
JOB_S = 400


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    """A Slurm whose login node has a space, and the command `raysearch`."""
    with slurm_cluster() as cluster:
        shutil.copy(SPACE, cluster.folder)
        shutil.copy(SPACE.with_name("cluster_loss.py"), cluster.folder)
        home = cluster.folder / "home"
        home.mkdir()
        bin_folder = Path(sys.executable).parent
        cluster.environment |= {
            "HOME": str(home),
            "PATH": f"{bin_folder}:{cluster.environment['PATH']}",
            "MLFLOW_TRACKING_URI": f"sqlite:///{cluster.folder}/mlflow.db",
        }
        yield cluster


def reports(folder: StudyFolder) -> list[FoldReport]:
    """The reports of a study so far; none before it has a plan."""
    if not folder.exists(folder.PLAN):
        return []
    return [event for event in load_study(folder).events if isinstance(event, FoldReport)]


def test_a_study_uses_all_nodes_and_goes_on_after_it_was_queued_again(slurm: SlurmCluster) -> None:
    options = ["--nodes", "3", "--cpus-per-node", "1", "--time", "15", "--trials", "6"]
    written = slurm.run("raysearch", "slurm", "space.yaml", *options, "--name", "s", "--submit")
    job = written.stdout.split()[-1]
    assert f"Submitted as job {job}" in written.stdout
    folder = StudyFolder(str(slurm.folder / "studies" / "s"))
    slurm.wait(job, {"RUNNING"}, 60)
    deadline = time.monotonic() + JOB_S
    while len({report.host for report in reports(folder) if report.host}) < 3:
        assert time.monotonic() < deadline, slurm.logs()
        assert slurm.state(job) == "RUNNING", slurm.logs()
        time.sleep(1)
    # What Slurm sends before the time limit.
    slurm.run("scancel", "--batch", "--signal=USR1", job)
    slurm.wait(job, {"PENDING"}, 90)
    num_reports = len(reports(folder))
    assert not load_study(folder).history.champion
    slurm.wait(job, {"RUNNING"}, 120)
    slurm.wait(job, {"COMPLETED"}, JOB_S)
    study = load_study(folder)
    assert study.history.champion
    assert len(study.history.searched()) == 6
    every = reports(folder)
    assert len(every) > num_reports
    # The class-prior baseline is not trained, and so on no node.
    assert {report.host for report in every if report.host} == NODES
    epochs = [(report.trial, report.epoch) for report in every]
    assert len(epochs) == len(set(epochs))
    ended = [event for event in study.events if isinstance(event, TrialEnded)]
    assert not [event for event in ended if event.status == "failed"]
    # Ray's folders are gone from the disks of the nodes.
    assert not list(Path("/tmp").glob(f"rs-{job}-*"))


def test_a_launch_that_would_use_one_node_of_several_is_rejected(slurm: SlurmCluster) -> None:
    command = "raysearch launch space.yaml --dry-run"
    rejected = slurm.run("salloc", "--nodes=3", "--quiet", "bash", "-c", command, check=False)
    assert rejected.returncode == 2
    assert "Slurm has given 3 nodes to job" in rejected.stderr
    assert "(node[1-3]), and the study would use this one alone" in rejected.stderr
    # Whether it advises `raysearch slurm` or `--on auto` depends on what else runs here.
    assert "add --on local to leave the others idle" in rejected.stderr
    local = slurm.run(
        "salloc", "--nodes=3", "--quiet", "bash", "-c", f"{command} --on local", check=False
    )
    assert local.returncode == 0
    assert "this one alone, with 2 CPUs" in local.stdout


@pytest.mark.long
def test_the_time_limit_and_scancel_save_the_study(slurm: SlurmCluster) -> None:
    options = ["--nodes", "3", "--cpus-per-node", "1", "--time", "5", "--trials", "60"]
    command = ["raysearch", "slurm", "space.yaml", *options, "--name", "t", "--submit"]
    job = slurm.run(*command).stdout.split()[-1]
    folder = StudyFolder(str(slurm.folder / "studies" / "t"))
    # Three minutes before the time limit, and Slurm is a minute late at most.
    slurm.wait(job, {"RUNNING"}, 60)
    slurm.wait(job, {"PENDING"}, 240)
    num_reports = len(reports(folder))
    assert num_reports
    slurm.wait(job, {"RUNNING"}, 120)
    deadline = time.monotonic() + JOB_S
    while len(reports(folder)) < num_reports + 5:
        assert time.monotonic() < deadline, slurm.logs()
        time.sleep(1)
    slurm.run("scancel", job)
    slurm.wait(job, {"CANCELLED"}, 90)
    assert "Interrupted; state saved" in (slurm.folder / f"t-{job}.log").read_text()
    # The same script resumes the study.
    resumed = slurm.run("sbatch", "--parsable", "t.sbatch").stdout.strip()
    slurm.wait(resumed, {"RUNNING"}, 60)
    num_reports = len(reports(folder))
    deadline = time.monotonic() + JOB_S
    while len(reports(folder)) < num_reports + 5:
        assert time.monotonic() < deadline, slurm.logs()
        assert slurm.state(resumed) == "RUNNING", slurm.logs()
        time.sleep(1)
    slurm.run("scancel", resumed)
    slurm.wait(resumed, {"CANCELLED"}, 90)
    epochs = [(report.trial, report.epoch) for report in reports(folder)]
    assert len(epochs) == len(set(epochs))
