"""The files of a study that are damaged, or replaced by others, lead to no other results."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raysearch.champion.stored_champion import load_champion
from raysearch.errors import StudyError
from raysearch.search.engine import champion_tasks, reporter, worker_tasks
from raysearch.search.engine.worker_messages import WorkerMessage, WorkerWarning, trial_task
from raysearch.search.engine.worker_tasks import train_trial
from raysearch.search.journal.events import FoldReport, ScoresReplaced
from raysearch.search.journal.history import Trial
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.fold_scores import out_of_fold
from raysearch.search.study.repeats import missing_folds
from raysearch.search.study.stored_study import load_study
from raysearch.search.study.study import Study
from support.champion_studies import REPEAT_SEED, study_with_champion, train_repeat
from support.recorded_training import HPARAMS
from support.result_studies import new_study, next_searched

TREE = {
    "epochs": 2,
    "trials": 1,
    "stopping": {"rule": "none"},
    "space": {"folds": 2, **HPARAMS},
}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[WorkerMessage]:
    """The messages of a worker in this process."""
    messages: list[WorkerMessage] = []
    monkeypatch.setattr(worker_tasks, "get_device", worker_tasks.get_local_device)
    monkeypatch.setattr(reporter, "current_node_id", lambda: "node")
    monkeypatch.setattr(reporter, "draining_node_ids", set)
    for module in (reporter, worker_tasks):
        monkeypatch.setattr(module, "send_message", messages.append)
    return messages


def train(study: Study, trial: Trial, sent: list[WorkerMessage], num_received: int = 99) -> None:
    """Train `trial` as its worker does; the study receives the first reports."""
    sent.clear()
    train_trial(trial_task(study, trial))
    reports = [message for message in sent if isinstance(message, FoldReport)]
    for report in reports[:num_received]:
        study.report(report)


def scores_of(study: Study, trial: Trial, epoch: int) -> str:
    """The file of scores that the journal names."""
    return study.folder.scores(trial.id, epoch, trial.score_hashes[epoch])


def flip(study: Study, name: str, place: int = -20) -> None:
    """Flip one bit of a file of the study."""
    content = bytearray(study.folder.read(name))
    content[place] ^= 4
    study.folder.write(name, bytes(content))


def test_the_journal_has_the_hash_of_each_file_of_scores(
    shards: Path, tmp_path: Path, sent: list[WorkerMessage]
) -> None:
    study = new_study(shards, tmp_path / "x", TREE)
    trial = next_searched(study)
    train(study, trial, sent)
    hashes = load_study(study.folder).history.trials[trial.id].score_hashes
    assert hashes == {
        epoch: hashlib.sha256(study.folder.read(scores_of(study, trial, epoch))).hexdigest()
        for epoch in (2, 4)
    }
    name = scores_of(study, trial, 2)
    flip(study, name)
    with pytest.raises(StudyError, match="its SHA-256 is not the one in the journal") as error:
        out_of_fold(study.folder, study.plan, trial)
    assert str(error.value).startswith(study.folder.path(name))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", ["none", "scores"])
def test_a_trial_that_starts_again_keeps_its_scores_or_replaces_damaged_ones(
    shards: Path, tmp_path: Path, sent: list[WorkerMessage], damage: str
) -> None:
    """Its checkpoint is damaged: it starts again with a warning, and its values stay."""
    study = new_study(shards, tmp_path / "x", TREE)
    trial = next_searched(study)
    train(study, trial, sent, 3)  # of four fold-epochs; the scores are those of the second
    reported = list(trial.reports)
    name = scores_of(study, trial, 2)
    content = study.folder.read(name)
    flip(study, study.folder.checkpoint(trial.id))
    if damage == "scores":
        flip(study, name)
    else:  # as if another device had computed slightly other scores
        trial.score_hashes[2] = study.folder.write_scores(trial.id, 2, content + b" ")
    expected = content + b" " if damage == "none" else content
    train(study, trial, sent)
    warnings = [message.text for message in sent if isinstance(message, WorkerWarning)]
    assert len(warnings) == 1
    assert "the trial starts from its first epoch" in warnings[0]
    assert trial.reports[:3] == reported
    assert [report.epoch for report in trial.reports] == [1, 2, 3, 4]
    assert study.folder.read(scores_of(study, trial, 2)) == expected
    assert trial.score_hashes[2] == hashlib.sha256(expected).hexdigest()


def test_a_delayed_worker_of_a_trial_that_started_again_replaces_no_scores(
    shards: Path, tmp_path: Path, sent: list[WorkerMessage]
) -> None:
    """It computes slightly other scores, as on another device, and its reports get lost."""
    study = new_study(shards, tmp_path / "x", TREE)
    trial = next_searched(study)
    delayed = replace(trial_task(study, trial), seed=trial.seed + 1)
    train(study, trial, sent)
    expected = out_of_fold(study.folder, study.plan, trial).probabilities
    study.folder.remove(study.folder.checkpoint(trial.id))
    train_trial(delayed)
    stored = load_study(study.folder).history.trials[trial.id]
    assert np.array_equal(out_of_fold(study.folder, study.plan, stored).probabilities, expected)
    assert len(study.folder.names(f"scores/{trial.id}")) == 4


def test_scores_are_read_before_they_are_written_only_if_the_journal_names_them(
    shards: Path, tmp_path: Path, sent: list[WorkerMessage], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = new_study(shards, tmp_path / "x", TREE)
    trial = next_searched(study)
    names, read = [], StudyFolder.read

    def record(folder: StudyFolder, name: str, max_bytes: int | None = None) -> bytes:
        names.append(name)
        return read(folder, name, max_bytes)

    monkeypatch.setattr(StudyFolder, "read", record)
    train(study, trial, sent, 3)
    assert not [name for name in names if name.startswith("scores/")]
    flip(study, study.folder.checkpoint(trial.id))
    train(study, trial, sent)
    assert [name for name in names if name.startswith("scores/")] == [scores_of(study, trial, 2)]


def test_scores_that_were_written_again_are_recorded(
    shards: Path, tmp_path: Path, sent: list[WorkerMessage]
) -> None:
    study = new_study(shards, tmp_path / "x", TREE)
    trial = next_searched(study)
    train(study, trial, sent, 3)
    trial.score_hashes[2] = "00" * 32  # of a file that is damaged
    train(study, trial, sent)
    events = [event for event in study.journal.events if isinstance(event, ScoresReplaced)]
    assert [(event.trial, event.epoch) for event in events] == [(trial.id, 2)]
    stored = load_study(study.folder).history.trials[trial.id]
    assert len(out_of_fold(study.folder, study.plan, stored).labels) == 240


def test_a_report_that_is_sent_again_from_a_checkpoint_has_the_hash_of_its_scores(
    shards: Path, tmp_path: Path, sent: list[WorkerMessage]
) -> None:
    study = new_study(shards, tmp_path / "x", TREE)
    trial = next_searched(study)
    train(study, trial, sent, 1)  # the worker was killed after its last checkpoint
    train(study, trial, sent)
    assert trial.score_hashes.keys() == {2, 4}
    assert np.isfinite(out_of_fold(study.folder, study.plan, trial).probabilities).all()


def test_files_of_a_repeat_that_are_not_those_of_the_journal_are_trained_again(
    shards: Path, tmp_path: Path
) -> None:
    study = study_with_champion(shards, tmp_path / "studies" / "x", kind="ensemble")
    trial, folder = study.history.trials["t0000"], study.folder

    def missing() -> list[int]:
        stored = load_study(folder).history.trials["t0000"]
        repeats = missing_folds(folder, study.plan, stored, [REPEAT_SEED], networks=True)
        return [repeat.fold for repeat in repeats]

    assert missing() == []
    network = [folder.repeat_network("t0000", REPEAT_SEED, fold) for fold in (0, 1)]
    own = [folder.read(name) for name in network]
    folder.write(network[0], own[1])  # valid in itself, and of the other fold
    assert missing() == [0]
    with pytest.raises(StudyError, match="repeats: missing or damaged; restore it, or run"):
        load_champion(folder, study.plan, study.history)
    train_repeat(study, trial, REPEAT_SEED, 0)
    assert missing() == []


def test_a_refit_that_is_not_the_one_of_the_journal_is_rejected(
    shards: Path, tmp_path: Path
) -> None:
    studies = [study_with_champion(shards, tmp_path / name) for name in ("first", "second")]
    first, second = studies
    load_champion(first.folder, first.plan, first.history)
    other = replace(trial_task(second, second.history.trials["t0000"]), seed=77)
    champion_tasks.refit_trial(other)
    content = second.folder.read(second.folder.CHAMPION)
    first.folder.write(first.folder.CHAMPION, content)  # whole, and of a trial of this name
    with pytest.raises(StudyError, match=r"champion\.pt: missing or damaged"):
        load_champion(first.folder, first.plan, first.history)


@pytest.mark.parametrize("is_folder", [True, False])
def test_an_error_of_the_disk_is_one_line(
    shards: Path, tmp_path: Path, sent: list[WorkerMessage], is_folder: bool
) -> None:
    study = new_study(shards, tmp_path / "x", TREE)
    trial = next_searched(study)
    train(study, trial, sent)
    name = scores_of(study, trial, 2)
    study.folder.remove(name)
    if is_folder:
        (study.folder.local / name).mkdir()
    with pytest.raises(StudyError, match="restore it from a copy") as error:
        out_of_fold(study.folder, study.plan, trial)
    assert "\n" not in str(error.value)


def test_the_hash_is_compared_before_the_file_is_parsed(
    shards: Path, tmp_path: Path, sent: list[WorkerMessage], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = new_study(shards, tmp_path / "x", TREE)
    trial = next_searched(study)
    train(study, trial, sent)

    def reject(_content: bytes) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr("raysearch.search.study.fold_scores.read_parquet", reject)
    flips: list[Callable[[], None]] = [
        lambda place=place: flip(study, scores_of(study, trial, 2), place)  # type: ignore[misc]
        for place in range(0, 400, 40)
    ]
    for damage in flips:
        damage()
        with pytest.raises(StudyError, match="damaged"):
            out_of_fold(study.folder, study.plan, trial)
