"""The tasks of a worker: trials, refits and repeats, and their fallback to micro-batches."""

from __future__ import annotations

import io
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from raysearch.search.engine import champion_tasks, reporter, worker_tasks
from raysearch.search.engine.champion_tasks import refit_trial
from raysearch.search.engine.worker_messages import (
    TrialFailed,
    TrialTask,
    WorkerMessage,
    trial_task,
)
from raysearch.search.engine.worker_tasks import train_trial, within_memory
from raysearch.search.journal.events import FoldReport
from raysearch.search.journal.history import Trial
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.study import Study
from raysearch.search.study.trial_data import WorkerCache, train_config
from raysearch.training.failures import TrainingFailedError
from raysearch.training.fold_loss import FoldLoss
from raysearch.training.fold_training import FoldTrainer, ValidationScores
from raysearch.training.loop import FoldEpoch, train, validation_metrics
from raysearch.training.network_weights import unpack_network_weights
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData
from support.champion_studies import study_with_started_trial, train_repeat
from support.recorded_training import HPARAMS, Recorder, small_config
from support.result_studies import new_study, next_searched


def test_a_fold_trained_alone_is_that_fold_of_a_whole_training_with_its_seed(
    shards: Path, tmp_path: Path
) -> None:
    study = study_with_started_trial(shards, tmp_path / "studies" / "repeated")
    trial = study.history.trials["t0000"]
    fold_ends: list[tuple[int, ValidationScores]] = []

    def record(fold_epoch: FoldEpoch, scores: ValidationScores, _state: object) -> None:
        fold_ends.append((fold_epoch.epoch, scores))

    train_repeat(study, trial, 11)
    address, shards_address = study.folder.address, study.plan.data
    data = WorkerCache().training_data(address, shards_address, "cpu", 2, 1.0)
    config = train_config(study.plan, trial.hparams, 11, torch.device("cpu"))
    train(config, data, record)
    assert len(fold_ends) == 2
    for fold, (epoch, scores) in enumerate(fold_ends):
        content = study.folder.read(study.folder.repeat_scores("t0000", 11, fold))
        table = pq.read_table(io.BytesIO(content))
        assert set(table["fold"].to_pylist()) == {fold}
        assert set(table["epoch"].to_pylist()) == {epoch}
        assert np.array_equal(table["patch"].to_numpy(), scores.rows)
        logits = [table[f"logit_{name}"].to_numpy() for name in study.plan.class_names]
        assert np.array_equal(np.column_stack(logits), scores.logits)


class LimitedMemory:
    """A device whose memory is too small for the loss of more than `max_rows` rows."""

    def __init__(self, max_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.max_rows = max_rows
        mean_loss = FoldLoss.mean

        def limited_loss(
            fold_loss: FoldLoss, logits: torch.Tensor, rows: torch.Tensor
        ) -> torch.Tensor:
            if len(rows) > self.max_rows:
                raise torch.OutOfMemoryError
            return mean_loss(fold_loss, logits, rows)

        monkeypatch.setattr(FoldLoss, "mean", limited_loss)


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[WorkerMessage]:
    """The messages of the worker tasks, which run in this process."""
    sent: list[WorkerMessage] = []
    monkeypatch.setattr(worker_tasks, "get_device", worker_tasks.get_local_device)
    monkeypatch.setattr(reporter, "current_node_id", lambda: "node")
    monkeypatch.setattr(reporter, "draining_node_ids", set)
    for module in (reporter, worker_tasks):
        monkeypatch.setattr(module, "send_message", sent.append)
    return sent


def test_a_trial_that_is_too_large_for_the_memory_is_trained_with_micro_batches(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = LimitedMemory(9, monkeypatch)
    micro_batches: list[int] = []
    record = Recorder()

    def train_with(config: TrainConfig) -> None:
        micro_batches.append(config.accumulate)
        train(config, data, record)

    within_memory(small_config(), train_with)
    assert micro_batches == [1, 4]
    assert [fold_epoch.epoch for fold_epoch in record.fold_epochs] == [1, 2, 3, 4]
    memory.max_rows = 1
    with pytest.raises(TrainingFailedError, match="out-of-memory"):
        within_memory(small_config(), train_with)
    assert micro_batches == [1, 4, 1, 4]


def small_task(shards: Path, folder: Path) -> TrialTask:
    """Create a study of two trials with one epoch, and return the task of its first trial."""
    tree: dict[str, Any] = {"epochs": 1, "trials": 2, "space": {"folds": 2, **HPARAMS}}
    study = new_study(shards, folder, tree)
    trial = study.start("t0000", "trial", HPARAMS)
    return replace(trial_task(study, trial), folds=2, seed=1)


def test_the_reports_of_a_trial_have_its_micro_batch_and_a_refit_uses_micro_batches(
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    messages: list[WorkerMessage],
) -> None:
    task = small_task(shards, tmp_path / "x")
    memory = LimitedMemory(9, monkeypatch)
    train_trial(task)
    reports = [message for message in messages if isinstance(message, FoldReport)]
    assert [(report.epoch, report.micro_batch) for report in reports] == [(1, 8), (2, 8)]
    assert refit_trial(task).num_trainings == 1
    messages.clear()
    memory.max_rows = 1
    train_trial(replace(task, trial="t0001"))
    assert messages == [TrialFailed("out-of-memory")]
    with pytest.raises(TrainingFailedError, match="out-of-memory"):
        refit_trial(replace(task, seed=2))  # the first refit has a checkpoint


def test_a_refit_below_the_objective_is_repeated_with_other_seeds_and_the_best_is_stored(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = small_task(shards, tmp_path / "x")
    folder = StudyFolder(task.study)
    attempts: list[tuple[float, ValidationScores]] = []

    def recording_metrics(
        config: TrainConfig, data: TrainingData, scores: ValidationScores
    ) -> dict[str, float | None]:
        metrics = validation_metrics(config, data, scores)
        attempts.append((metrics["auroc"] or 0.0, scores))
        return metrics

    monkeypatch.setattr(champion_tasks, "validation_metrics", recording_metrics)
    cache = WorkerCache()
    data = cache.refit_data(task.study, str(shards), "cpu")
    ((train_indices, val_indices),) = data.folds
    assert len(train_indices) == 240 == len(set(val_indices.tolist()))
    first = refit_trial(task, 0.0)
    assert (first.objective, first.num_trainings) == (attempts[0][0], 1)
    first_weights = folder.read(folder.CHAMPION)
    best = refit_trial(task, 2.0)
    best_attempt = max(attempts[1:], key=lambda attempt: attempt[0])
    assert (best.objective, best.num_trainings) == (best_attempt[0], 3)
    assert len(attempts) == 4
    assert attempts[1][0] == attempts[0][0]
    assert len({objective for objective, _scores in attempts}) == 3
    stored = unpack_network_weights(folder.read(folder.CHAMPION))
    config = train_config(cache.plan(task.study), HPARAMS, 1, torch.device("cpu"))
    trainer = FoldTrainer(config, data, 0)
    trainer.model.load_state_dict(stored.model)
    logits = trainer.validate(use_tta=True).logits
    assert np.abs(logits - best_attempt[1].logits).max() < 1e-5
    assert refit_trial(task).num_trainings == 1
    assert folder.read(folder.CHAMPION) == first_weights


def train_until_killed(
    study: Study, trial: Trial, monkeypatch: pytest.MonkeyPatch, num_sent: int, num_received: int
) -> None:
    """Train `trial`; its process is killed after `num_sent` reports.

    The study receives the first `num_received` of them.
    """
    sent: list[WorkerMessage] = []

    def send(message: WorkerMessage) -> None:
        sent.append(message)
        assert isinstance(message, FoldReport)
        if len(sent) <= num_received:
            study.report(message)
        if len(sent) == num_sent:
            raise InterruptedError

    monkeypatch.setattr(reporter, "send_message", send)
    train_trial(trial_task(study, trial))


@pytest.mark.parametrize(
    ("num_sent", "num_received"),
    [
        (1, 1),
        (1, 0),  # the checkpoint exists, and the journal has no report
        (3, 1),  # a fold-epoch of the first fold and one of the second are reported again
        (3, 3),
    ],
)
@pytest.mark.usefixtures("messages")
def test_the_costs_of_a_trial_are_complete_after_a_kill(
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    num_sent: int,
    num_received: int,
) -> None:
    monkeypatch.setattr(reporter, "CHECKPOINT_INTERVAL_S", 0.0)
    tree: dict[str, Any] = {
        "epochs": 2,
        "trials": 1,
        "stopping": {"rule": "none"},
        "space": {"folds": 2, **HPARAMS},
    }
    study = new_study(shards, tmp_path / "uninterrupted", tree)
    uninterrupted = next_searched(study)
    train_until_killed(study, uninterrupted, monkeypatch, 10**6, 10**6)
    killed_study = new_study(shards, tmp_path / "killed", tree)
    killed = next_searched(killed_study)
    with pytest.raises(InterruptedError):
        train_until_killed(killed_study, killed, monkeypatch, num_sent, num_received)
    assert killed.epoch == num_received
    train_until_killed(killed_study, killed, monkeypatch, 10**6, 10**6)
    assert [report.epoch for report in killed.reports] == [1, 2, 3, 4]
    samples = [report.samples for report in uninterrupted.reports]
    assert [report.samples for report in killed.reports] == samples
    measured = {"inference_ms", "peak_rss_bytes", "peak_device_bytes"}
    costs, killed_costs = asdict(uninterrupted.costs), asdict(killed.costs)
    counted = {name for name in costs if name not in measured}
    assert counted == {"effective_batch_size", "parameters", "flops", "samples_seen"}
    assert {name: costs[name] for name in counted} == {name: killed_costs[name] for name in counted}
    patches = study.plan.splits[0].patches
    assert costs["samples_seen"] == study.plan.space.epochs * sum(patches)
    memory = "peak_device_bytes" if torch.cuda.is_available() else "peak_rss_bytes"
    for trial in (uninterrupted, killed):
        assert asdict(trial.costs)["inference_ms"] > 0
        assert asdict(trial.costs)[memory] > 0
        assert sum(report.costs is not None for report in trial.reports) == 1
