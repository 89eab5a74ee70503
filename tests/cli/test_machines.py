"""The machines that a study uses, and those of an allocation that it would leave idle."""

from __future__ import annotations

import pytest

from raysearch.cli import machines
from raysearch.cli.machines import check_idle_nodes, machines_text, slurm_allocation
from raysearch.config.run_location import RemoteCluster
from raysearch.errors import StudyError


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name in ("SLURM_JOB_ID", "SLURM_JOB_NUM_NODES", "SLURM_NNODES", "SLURM_JOB_NODELIST"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("variable", ["SLURM_JOB_NUM_NODES", "SLURM_NNODES"])
def test_a_study_on_one_node_of_several_is_rejected(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    check_idle_nodes(None, None)
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "gpu[01-04]")
    monkeypatch.setenv(variable, "1")
    check_idle_nodes(None, None)
    monkeypatch.setenv(variable, "4")
    monkeypatch.setattr(machines, "_ray_runs_here", lambda: False)
    with pytest.raises(StudyError) as caught:
        check_idle_nodes(None, None)
    text = str(caught.value)
    assert "Slurm has given 4 nodes to job 42 (gpu[01-04])" in text
    assert "start Ray on all of them, as `raysearch slurm` does" in text
    check_idle_nodes(None, "local")
    check_idle_nodes(RemoteCluster("http://head:8265"), "http://head:8265")


def test_the_ray_that_was_not_joined_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under `ray symmetric-run`, which sets no RAY_ADDRESS."""
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "4")
    monkeypatch.setattr(machines, "_ray_runs_here", lambda: True)
    with pytest.raises(StudyError, match="add --on auto to use all machines of the Ray that runs"):
        check_idle_nodes(None, None)
    assert "--on auto joins it" in machines_text(None)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    check_idle_nodes(None, "auto")
    assert machines_text(None) == "those of the Ray at auto"


def test_a_plan_names_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "_ray_runs_here", lambda: False)
    assert machines_text(None).startswith("this one alone, with ")
    assert machines_text(RemoteCluster("cluster.yaml")) == "those of cluster.yaml"
    assert slurm_allocation() is None


def test_a_raylet_is_a_ray_that_runs_here(cluster: str) -> None:
    assert cluster
    assert machines._ray_runs_here()
