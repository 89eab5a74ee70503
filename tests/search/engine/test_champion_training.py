"""Training repeats on workers: a lost worker is replaced, and a failed seed is left out."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from raysearch.config.space import Resources
from raysearch.data.step_progress import StepProgress
from raysearch.search.engine import champion_training
from raysearch.search.engine.champion_tasks import RefitResult
from raysearch.search.engine.champion_training import (
    _RepeatProgress,
    _warn_of_refits,
    largest_node_slot,
    train_repeats,
)
from raysearch.search.engine.nodes import Node
from raysearch.search.engine.ray_session import ray_session
from raysearch.search.journal.events import RepeatFailed, TrialWarning
from raysearch.search.journal.history import History
from raysearch.search.journal.journal import Journal
from raysearch.search.study.repeats import missing_folds
from support.champion_studies import REPEATED_HPARAMS, study_with_started_trial


def test_a_seed_that_failed_is_read_from_the_journal_and_not_trained_again(
    shards: Path, tmp_path: Path
) -> None:
    study = study_with_started_trial(shards, tmp_path / "studies" / "repeated")
    trial = study.history.trials["t0000"]
    study.record_repeat_failure(trial, 11, "nan-loss")
    train_repeats(study, trial, [11], networks=False)  # without Ray, as nothing is trained
    events = Journal(study.folder / study.folder.JOURNAL).events
    assert History(events).repeat_failures == {("t0000", 11): "nan-loss"}


@pytest.mark.parametrize("unit", ["patches", "slides"])
def test_the_scored_rows_of_all_folds_are_added(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    study = study_with_started_trial(shards, tmp_path / "studies" / "repeated")
    if unit == "slides":
        study.plan = replace(study.plan, shape=(40, 16, 1))
    trial = study.history.trials["t0000"]
    missing = missing_folds(study.folder, study.plan, trial, [11], networks=True)
    monkeypatch.setattr(
        champion_training, "read_progress", lambda _key: StepProgress("scoring", 3, 9, unit)
    )
    progress: list[StepProgress] = []
    _RepeatProgress(study, trial, [11], missing, progress.append).poll()
    step = "repeating t0000 with new seeds: scoring"
    assert progress == [StepProgress(step, 3 * len(missing), 9 * len(missing), unit)]


def test_a_refit_takes_all_cores_of_the_largest_node_and_waits_without_a_node() -> None:
    resources = Resources(cpus=4.0)
    nodes = [Node("small", "10.0.0.1", True, 2.0, 0.0), Node("large", "10.0.0.2", True, 8.0, 0.0)]
    (slot,) = largest_node_slot(nodes, resources)
    assert (slot.node_id, slot.resources.cpus) == ("large", 8.0)
    (slot,) = largest_node_slot(nodes[:1], resources)
    assert slot.resources.cpus == 4.0
    assert largest_node_slot([], resources) == []


def test_the_warning_of_a_refit_is_true_for_a_metric_of_either_direction(
    shards: Path, tmp_path: Path
) -> None:
    study = study_with_started_trial(shards, tmp_path / "studies" / "refitted")
    result = RefitResult(objective=0.25, num_trainings=3, network="")
    _warn_of_refits(study, study.history.trials["t0000"], result)
    (event,) = [event for event in study.journal.events if isinstance(event, TrialWarning)]
    assert event.text == (
        "its refit reaches 0.2500 on training rows, the best of 3 seeds: the first seed was worse"
        " there than the folds' networks on validation rows (an undefined objective)"
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_all_folds_are_trained_after_a_worker_is_lost_and_a_seed_fails(
    cluster: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    study = study_with_started_trial(shards, tmp_path / "studies" / "repeated")
    trial = study.history.trials["t0000"]
    diverging = study.start("t0001", "trial", {**REPEATED_HPARAMS, "learning_rate": 1e30})
    killer = threading.Thread(target=kill_a_worker, daemon=True)
    progress: list[StepProgress] = []
    with ray_session():
        killer.start()
        train_repeats(study, trial, [11], progress.append, networks=True)
        train_repeats(study, diverging, [12], networks=True)
    assert {(report.total, report.unit) for report in progress if report.unit == "epochs"} == {
        (2, "epochs")
    }
    assert progress[0].done == 0
    assert max(report.done for report in progress if report.unit == "epochs") >= 1
    assert study.folder.names(study.folder.UNFINISHED) == []
    killer.join(1.0)
    assert not killer.is_alive()
    assert missing_folds(study.folder, study.plan, trial, [11], networks=True) == []
    failures = [event for event in study.journal.events if isinstance(event, RepeatFailed)]
    assert {(event.trial, event.seed) for event in failures} == {("t0001", 12)}
    assert study.history.repeat_failures.keys() == {("t0001", 12)}


def kill_a_worker() -> None:
    """Kill the first process that trains a fold of a repeat."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            if b"ray::_FunctionRunner.run" in read(path) and belongs_to_this_test(path.parent):
                os.kill(int(path.parent.name), signal.SIGKILL)
                return
        time.sleep(0.05)


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def belongs_to_this_test(process: Path) -> bool:
    """Return whether `process` belongs to this test's cluster, and to no other on the machine."""
    return os.environ["RAYSEARCH_CACHE"].encode() in read(process / "environ")
