"""A study records what happens, decides, and resumes, without Ray."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysearch.errors import StorageError, StudyError, UserError
from raysearch.search.journal.history import History
from raysearch.search.journal.journal import Journal
from raysearch.search.study.stored_study import load_study, read_plan
from raysearch.search.study.study import Study, create_study
from support.result_studies import fold_report, new_study, quality, report_epochs


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    return new_study(shards, tmp_path / "x")


def finish(study: Study, max_trials: int = 10**6) -> None:
    """Train the next trials to their ends; the benchmark among them fails."""
    while max_trials and (trial := study.next_trial()) is not None:
        if trial.kind == "benchmark":
            study.fail(trial.id, "not of interest here")
        else:
            report_epochs(study, trial)
        max_trials -= 1


def states(history: History) -> list[tuple[Any, ...]]:
    return [
        (trial.id, trial.hparams, trial.status, trial.epoch) for trial in history.trials.values()
    ]


def test_a_requeued_trial_continues_later(study: Study) -> None:
    finish(study, 1)
    trial = study.next_trial()
    assert trial is not None
    study.report(fold_report(trial.id, 1, 0.5))
    study.requeue(trial.id)
    study.requeue(trial.id)
    assert study.next_trial() is trial
    next_trial = study.next_trial()
    assert next_trial is not None
    assert next_trial is not trial
    assert study.halt_reason is None


def test_a_study_without_available_workers_halts_and_can_be_resumed(study: Study) -> None:
    finish(study, 1)
    trial = study.next_trial()
    assert trial is not None
    study.requeue(trial.id, "host: no space")
    study.requeue(trial.id, "host: no space")
    assert study.next_trial() is trial
    study.report(fold_report(trial.id, 1, 0.5))  # a report proves an available worker
    for _ in range(3):
        assert study.halt_reason is None
        study.requeue(trial.id, "host: no space")
    assert study.halt_reason == "host: no space"
    assert study.next_trial() is None
    assert not study.report(fold_report(trial.id, 2, 0.5))
    resumed_study = Study(study.folder, study.plan)
    resumed_study.begin()
    resumed = resumed_study.next_trial()
    assert resumed is not None
    assert (resumed.id, resumed.epoch, resumed.status) == (trial.id, 1, "running")


def test_a_study_starts_the_benchmark_and_then_as_many_trials_as_planned(study: Study) -> None:
    finish(study)
    kinds = [trial.kind for trial in study.history.trials.values()]
    assert kinds == ["benchmark"] + ["trial"] * 12
    assert study.ended()
    assert {"finished", "stopped"} <= {trial.status for trial in study.history.searched()}


@pytest.mark.parametrize("num_trials", range(1, 14, 3))
def test_an_interrupted_study_ends_as_an_uninterrupted_one(
    shards: Path, tmp_path: Path, num_trials: int
) -> None:
    uninterrupted = new_study(shards, tmp_path / "uninterrupted")
    finish(uninterrupted)
    study = create_study_copy(uninterrupted, tmp_path)
    finish(study, num_trials)
    trial = study.next_trial()
    if trial is not None and trial.kind == "trial":
        study.report(fold_report(trial.id, 1, quality(trial) + 0.01))
    resumed = Study(study.folder, read_plan(study.folder))
    resumed.begin()
    finish(resumed)
    assert states(resumed.history) == states(uninterrupted.history)
    assert resumed.history.rungs == uninterrupted.history.rungs


def create_study_copy(study: Study, path: Path) -> Study:
    """Create an empty study with the plan of `study`, and begin it."""
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.stored_study import read_splits

    splits = read_splits(study.folder, study.plan)
    copy = create_study(StudyFolder(path / "copy"), study.plan, splits)
    copy.begin()
    return copy


def test_a_repeated_report_changes_nothing(study: Study) -> None:
    finish(study, 1)
    trial = study.next_trial()
    assert trial is not None
    assert study.report(fold_report(trial.id, 1, 0.7))
    events = list(study.journal.events)
    assert study.report(fold_report(trial.id, 1, 0.9))
    assert study.journal.events == events
    assert trial.objective == 0.7


def test_a_resume_makes_the_decision_that_a_killed_launcher_left_pending(study: Study) -> None:
    finish(study, 2)
    trial = study.next_trial()
    assert trial is not None
    # The launcher was killed after it recorded the report and before it recorded the decision.
    study.journal.append(fold_report(trial.id, 1, -1.0, rung=True))
    resumed = Study(study.folder, study.plan)
    resumed.begin()
    assert resumed.history.trials[trial.id].status == "stopped"
    assert resumed.history.trials[trial.id].reason == "rung 1"


def test_checkpoints_of_ended_trials_are_removed(study: Study) -> None:
    finish(study, 1)
    trial = study.next_trial()
    assert trial is not None
    for name in (trial.id, "t0099"):
        study.folder.write(study.folder.checkpoint(name), b"x")
    resumed = Study(study.folder, study.plan)
    resumed.begin()
    assert study.folder.names("checkpoints") == [f"{trial.id}.pt"]
    assert resumed.next_trial() is resumed.history.trials[trial.id]
    resumed.fail(trial.id, "nan-loss")
    assert study.folder.names("checkpoints") == []


def test_an_existing_study_is_not_created_again(study: Study) -> None:
    with pytest.raises(StudyError, match="exists already"):
        create_study(study.folder, study.plan, {})


@pytest.mark.parametrize(
    "error",
    [
        StudyError("study 'x' was taken over by process 7 on b"),
        StorageError("s3://b/x: cannot be used (Access Denied); check the credentials"),
    ],
)
def test_a_study_of_another_owner_or_with_an_unreachable_store_halts(
    study: Study, error: UserError
) -> None:
    errors: list[UserError] = []
    owned = Study(study.folder, study.plan, check_owner=raise_last_of(errors))
    owned.begin()
    trial = owned.next_trial()
    assert trial is not None
    errors.append(error)
    with pytest.raises(UserError) as raised:
        owned.report(fold_report(trial.id, 1, 0.5))
    assert raised.value is error
    assert owned.halt_reason == str(error)
    assert trial.epoch == 0
    assert owned.next_trial() is None
    assert not owned.report(fold_report(trial.id, 1, 0.5))
    assert Journal(owned.folder / "journal").events == owned.journal.events


def raise_last_of(errors: list[UserError]) -> Callable[[], None]:
    def check_owner() -> None:
        if errors:
            raise errors[-1]

    return check_owner


def test_listeners_receive_further_events(study: Study) -> None:
    numbers: list[int] = []
    num_events = len(study.journal.events)
    study.add_listener(lambda event: numbers.append(event.number))
    finish(study, 2)
    assert numbers == list(range(num_events, len(study.journal.events)))


def test_the_journal_contains_the_history(study: Study) -> None:
    finish(study, 6)
    assert states(load_study(study.folder).history) == states(study.history)
