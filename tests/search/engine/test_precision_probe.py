"""Which errors of a probe mean that an architecture exceeds the memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from raysearch.config.space_file import parse_space
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

TREE = {"epochs": 1, "trials": 2, "space": {"folds": 2, "architecture": {"choice": ["cnn", "p4m"]}}}
LOST = WorkerLostError("a worker was lost (died); often its memory was too small", "died")
NO_MEMORY = WorkerOutOfMemoryError("a worker ran out of memory (the kernel)", "the kernel")


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
