"""Which errors of a probe mean that an architecture exceeds the memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from raysearch.config.space import Resources
from raysearch.config.space_file import parse_space
from raysearch.errors import StudyError
from raysearch.search.engine import precision_probe, worker_tasks
from raysearch.search.engine.actor_task import (
    FinishedTask,
    WorkerLostError,
    WorkerOutOfMemoryError,
)
from raysearch.search.engine.precision_probe import (
    ProbeResult,
    ProbeTask,
    probe_cluster,
    probe_device,
)
from raysearch.search.study.plan import Plan
from raysearch.search.study.plan_creation import make_plan
from raysearch.training.precision_choice import CANDIDATES
from raysearch.training.precision_settings import cpu_kind

TREE = {"epochs": 1, "trials": 2, "space": {"folds": 2, "architecture": {"choice": ["cnn", "p4m"]}}}
LOST = WorkerLostError("a worker was lost (died); often its memory was too small", "died")
NO_MEMORY = WorkerOutOfMemoryError("a worker ran out of memory (the kernel)", "the kernel")


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def plan(shards: Path) -> Plan:
    return make_plan(parse_space(TREE, "x"), "probed", str(shards))[0]


def let_probes_fail(monkeypatch: pytest.MonkeyPatch, errors: dict[str, Exception]) -> None:
    """Let the probes of one node end with `errors`, by architecture."""

    class Pool:
        def __init__(self, *_arguments: Any) -> None:
            pass

        def run_on_each_node(self, tasks: Sequence[ProbeTask]) -> list[list[Any]]:
            result = ProbeResult("cpu", CANDIDATES[-1])
            probes = [(task, errors.get(task.architecture)) for task in tasks]
            return [
                [FinishedTask(task, None if error else result, error) for task, error in probes]
            ]

    monkeypatch.setattr(precision_probe, "WorkerPool", Pool)
    monkeypatch.setattr(precision_probe, "request_nodes", lambda *_arguments: None)


def test_a_probe_without_memory_keeps_plain_float32_with_one_reason(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_probes_fail(monkeypatch, {"p4m": NO_MEMORY})
    messages: list[str] = []
    (settings,) = probe_cluster(plan, messages.append).precision_settings.values()
    assert settings["p4m"] == CANDIDATES[0]
    assert settings["cnn"] == CANDIDATES[-1]
    (message,) = messages
    assert "architecture p4m (the kernel): too little memory" in message


def test_a_probe_that_was_lost_otherwise_is_an_error_and_no_precision(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_probes_fail(monkeypatch, {"p4m": LOST})
    with pytest.raises(StudyError, match=r"largest network of p4m: a worker was lost \(died\)"):
        probe_cluster(plan)


def store_settings(plan: Plan, architecture: str, cpus: float) -> None:
    """Let a probe with `cpus` cores of this machine store its settings."""
    hparams = tuple(plan.space.largest_networks()[architecture].items())
    task = ProbeTask(architecture, hparams, plan.shape, len(plan.class_names))
    probe_device(task, cpus)


def test_a_worker_starts_only_if_this_machine_lacks_settings(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    let_probes_fail(monkeypatch, {"cnn": LOST, "p4m": LOST})
    monkeypatch.setattr(precision_probe, "choose_precision", lambda *_arguments: CANDIDATES[-1])
    monkeypatch.setattr(precision_probe, "prepare_process", lambda _cpus: torch.device("cpu"))
    cpus = plan.space.resources.cpus

    def reject_stored_settings(of_plan: Plan) -> None:
        with pytest.raises(StudyError, match="a worker was lost"):
            probe_cluster(of_plan)

    store_settings(plan, "benchmark", cpus)
    store_settings(plan, "cnn", cpus)
    store_settings(plan, "p4m", cpus + 1)  # of a trial with other resources
    reject_stored_settings(plan)
    store_settings(plan, "p4m", cpus)
    stored = dict.fromkeys(("benchmark", "cnn", "p4m"), CANDIDATES[-1])
    assert probe_cluster(plan).precision_settings == {cpu_kind(): stored}
    on_gpu = replace(plan, space=replace(plan.space, resources=Resources(cpus, 1.0)))
    reject_stored_settings(on_gpu)
    with monkeypatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "127.0.0.1:6379")  # the machines of a cluster store their own
        reject_stored_settings(plan)
    (file, *_others) = (tmp_path / "cache" / precision_probe.NUMERICS).glob("*.json")
    file.write_text("{}")
    reject_stored_settings(plan)


def test_a_worker_outside_tune_uses_a_gpu_only_if_ray_has_assigned_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    for assigned, device in (([], "cpu"), ([0], "cuda")):
        monkeypatch.setattr(ray, "get_gpu_ids", lambda assigned=assigned: assigned)
        assert worker_tasks.get_local_device().type == device
