"""Which errors of a probe mean that an architecture exceeds the memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from raysearch.config.json_values import dump_checked
from raysearch.config.space_file import parse_space
from raysearch.data.cache_folder import cache_folder, private_folder
from raysearch.data.files import Folder
from raysearch.errors import StudyError
from raysearch.search.engine import precision_probe
from raysearch.search.engine.actor_task import (
    FinishedTask,
    WorkerLostError,
    WorkerOutOfMemoryError,
)
from raysearch.search.engine.precision_probe import ProbeResult, ProbeTask, probe_cluster
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
    """Store settings of a network as a probe with `cpus` cores of this machine does."""
    hparams = tuple(plan.space.largest_networks()[architecture].items())
    task = ProbeTask(architecture, hparams, plan.shape, len(plan.class_names))
    folder = Folder(private_folder(cache_folder() / precision_probe.NUMERICS))
    name = precision_probe._file_name(task, cpu_kind(), cpus)
    folder.write(name, dump_checked(asdict(CANDIDATES[-1])))


def test_a_worker_starts_only_if_this_machine_lacks_settings(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_probes_fail(monkeypatch, {"cnn": LOST, "p4m": LOST})
    cpus = plan.space.resources.cpus
    store_settings(plan, "benchmark", cpus)
    store_settings(plan, "cnn", cpus)
    store_settings(plan, "p4m", cpus + 1)  # of a trial with other resources
    with pytest.raises(StudyError, match="a worker was lost"):
        probe_cluster(plan)
    store_settings(plan, "p4m", cpus)
    stored = dict.fromkeys(("benchmark", "cnn", "p4m"), CANDIDATES[-1])
    assert probe_cluster(plan).precision_settings == {cpu_kind(): stored}
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")  # the machines of a cluster store their own
    with pytest.raises(StudyError, match="a worker was lost"):
        probe_cluster(plan)
