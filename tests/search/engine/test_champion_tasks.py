"""An interrupted refit or repeat continues, and gives the files of an uninterrupted one."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raysearch.data.step_progress import StepProgress
from raysearch.errors import StorageError
from raysearch.search.engine import champion_tasks
from raysearch.search.engine.champion_tasks import refit_trial, train_repeat_fold
from raysearch.search.engine.worker_messages import TrialTask, trial_task
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.study import Study
from raysearch.training.fold_training import FoldTrainer
from support.champion_studies import SLIDE_HPARAMS, study_with_champion
from support.recorded_training import HPARAMS
from support.result_studies import new_study

EPOCHS = 3
RANDOM_PARTS = {**HPARAMS, "dropout": 0.1, "ema_decay": 0.9, "schedule": "cosine", "rotation": 20.0}


@pytest.fixture
def task(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrialTask:
    """The task of a trial of three epochs, whose refit writes a checkpoint after each epoch."""
    monkeypatch.setattr(champion_tasks, "CHECKPOINT_INTERVAL_S", 0.0)
    tree: dict[str, Any] = {"epochs": EPOCHS, "trials": 1, "space": {"folds": 2, **RANDOM_PARTS}}
    study = new_study(shards, tmp_path / "x", tree)
    trial = study.start("t0000", "trial", RANDOM_PARTS)
    return replace(trial_task(study, trial), folds=2, seed=1)


@pytest.fixture
def trained_epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the epochs that are trained."""
    numbers: list[int] = []
    train_epoch = FoldTrainer.train_epoch

    def counting(trainer: FoldTrainer, epoch: int, *arguments: Any, **options: Any) -> float:
        numbers.append(epoch)
        return train_epoch(trainer, epoch, *arguments, **options)

    monkeypatch.setattr(FoldTrainer, "train_epoch", counting)
    return numbers


def interrupt_after_writes(task: TrialTask, num_writes: int, run: Callable[[], object]) -> None:
    """Call `run`, which is interrupted by its write of the state with that number, from 1."""
    write_state, count = StudyFolder.write_state, 0

    def write(folder: StudyFolder, name: str, state: bytes) -> None:
        nonlocal count
        write_state(folder, name, state)
        count += 1
        if count == num_writes:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StudyFolder, "write_state", write)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert not StudyFolder(task.study).exists(StudyFolder.CHAMPION)


def reset(folder: StudyFolder) -> None:
    folder.remove(folder.UNFINISHED)
    folder.remove(folder.CHAMPION)


@pytest.mark.parametrize("num_writes", [1, 2, EPOCHS])
def test_an_interrupted_refit_continues_at_its_last_epoch_with_the_same_network(
    task: TrialTask, trained_epochs: list[int], num_writes: int
) -> None:
    folder = StudyFolder(task.study)
    result, network = refit_trial(task), folder.read(folder.CHAMPION)
    reset(folder)
    interrupt_after_writes(task, num_writes, lambda: refit_trial(task))
    trained_epochs.clear()
    assert refit_trial(task) == result
    assert trained_epochs == list(range(num_writes, EPOCHS))
    assert folder.read(folder.CHAMPION) == network


def test_a_refit_that_is_interrupted_in_its_second_attempt_keeps_the_first(
    task: TrialTask, trained_epochs: list[int]
) -> None:
    folder = StudyFolder(task.study)
    result, network = refit_trial(task, 2.0), folder.read(folder.CHAMPION)
    assert result.num_trainings == 3
    reset(folder)
    # The checkpoints and the weights of the first attempt, and one checkpoint of the second.
    interrupt_after_writes(task, EPOCHS + 2, lambda: refit_trial(task, 2.0))
    trained_epochs.clear()
    assert refit_trial(task, 2.0) == result
    assert trained_epochs == [1, 2, 0, 1, 2]
    assert folder.read(folder.CHAMPION) == network


def test_an_interrupted_fold_of_a_repeat_continues_with_the_same_files(
    task: TrialTask, trained_epochs: list[int]
) -> None:
    folder = StudyFolder(task.study)
    repeat = train_repeat_fold(task, 1, keep_network=True)
    folder.remove(folder.UNFINISHED)
    interrupt_after_writes(task, 2, lambda: train_repeat_fold(task, 1, keep_network=True))
    trained_epochs.clear()
    assert train_repeat_fold(task, 1, keep_network=True) == repeat
    assert trained_epochs == [2]


def test_a_checkpoint_that_is_damaged_or_of_another_training_is_not_used(
    task: TrialTask, trained_epochs: list[int]
) -> None:
    folder = StudyFolder(task.study)
    name = folder.refit_checkpoint(task.trial, 0)
    refit_trial(replace(task, seed=2))
    of_another_seed = folder.read(name)
    network = folder.read(folder.CHAMPION)
    damaged = of_another_seed[:-1] + bytes([of_another_seed[-1] ^ 1])
    for content in (of_another_seed, damaged):
        folder.write(name, content)
        trained_epochs.clear()
        refit_trial(task)
        assert trained_epochs == [0, 1, 2]
        assert folder.read(folder.CHAMPION) != network


def test_a_state_that_cannot_be_written_ends_no_refit(
    task: TrialTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = itertools.cycle([OSError(errno.ENOSPC, "full"), StorageError("unreachable")])

    def fail(_folder: StudyFolder, _name: str, _state: bytes) -> None:
        raise next(errors)

    monkeypatch.setattr(StudyFolder, "write_state", fail)
    monkeypatch.setattr(champion_tasks, "MAX_REFITS", 2)
    assert refit_trial(task, 2.0).num_trainings == 2


def test_a_refit_sends_its_epochs_and_then_its_scored_patches(
    task: TrialTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[StepProgress] = []
    monkeypatch.setattr(champion_tasks, "ProgressSender", lambda _key: sent.append)
    refit_trial(task)
    epochs = [progress for progress in sent if progress.unit == "epochs"]
    assert [progress.done for progress in epochs if progress.done == int(progress.done)] == [
        *(0.0, 1.0, 2.0, 3.0)
    ]
    assert {(progress.step, progress.total) for progress in epochs} == {
        ("refitting t0000 on all patients", EPOCHS)
    }
    assert sent[-1] == StepProgress(f"{epochs[0].step}: scoring", 240, 240, "patches")
    assert sent.index(epochs[-1]) < sent.index(sent[-1])


@pytest.mark.filterwarnings("ignore")
def test_the_refit_of_a_network_of_slides_sends_its_scored_slides(
    slide_study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[StepProgress] = []
    monkeypatch.setattr(champion_tasks, "ProgressSender", lambda _key: sent.append)
    study_with_champion(Path(slide_study.plan.data), tmp_path / "studies" / "x", SLIDE_HPARAMS)
    assert (sent[-1].total, sent[-1].unit) == (51, "slides")
