"""A user ends one trial of a study, or excludes a value of a choice; the study goes on."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest

from raysearch.errors import StudyError
from raysearch.search.journal.events import TrialEnded, TrialStarted, ValueExcluded
from raysearch.search.journal.history import Trial, excluded_values
from raysearch.search.scheduling.policy import SearchPolicy
from raysearch.search.study.stop_requests import (
    REASON,
    StopRequest,
    apply_requests,
    exclusion_request,
    trial_request,
    write_requests,
)
from raysearch.search.study.stored_study import load_study
from raysearch.search.study.study import Study
from support.result_studies import (
    TREE,
    fold_report,
    new_study,
    next_searched,
    report_epochs,
    train_next,
)

PROMOTION = TREE | {"stopping": {"rule": "promotion", "grace_period": 1}}


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    return new_study(shards, tmp_path / "studies" / "first", PROMOTION)


def optimizer(trial: Trial) -> object:
    return trial.hparams["optimizer"]


def request_trial(study: Study, trial: str) -> list[str]:
    write_requests(study.folder, [trial_request(study.plan.identity, study.history, trial)])
    return apply_requests(study)


def request_exclusion(study: Study, text: str) -> list[str]:
    request = exclusion_request(study.plan.identity, study.plan.space, study.history, text)
    write_requests(study.folder, [request])
    return apply_requests(study)


def resumed(study: Study) -> Study:
    again = Study(study.folder, study.plan)
    again.begin()
    return again


@pytest.mark.parametrize("is_paused", [False, True])
def test_a_stopped_trial_does_not_continue_and_the_study_goes_on(
    study: Study, is_paused: bool
) -> None:
    trial = next_searched(study)
    if is_paused:
        report_epochs(study, trial, 1)
    assert trial.status == ("paused" if is_paused else "running")
    study.requeue(trial.id)
    assert request_trial(study, trial.id) == [trial.id]
    assert (trial.status, trial.reason) == ("stopped", REASON)
    assert study.folder.names(study.folder.REQUESTS) == []
    assert not study.report(fold_report(trial.id, 2, 0.9))
    assert next_searched(study).id != trial.id
    again = resumed(study)
    assert again.history.trials[trial.id].status == "stopped"
    train_next(again, 3)
    assert len(again.history.searched()) > 1


def test_the_events_after_a_stop_are_decided_again_from_the_journal(study: Study) -> None:
    trial = next_searched(study)
    train_next(study, 2)
    request_trial(study, trial.id)
    request_exclusion(study, "optimizer=sgd")
    train_next(study, 3)
    policy, num_started = SearchPolicy(study.plan.space), 0
    for event in load_study(study.folder).events:
        if isinstance(event, TrialStarted) and event.kind == "trial":
            decision = policy.next()
            assert isinstance(decision, TrialStarted)
            assert (decision.trial, decision.hparams) == (event.trial, event.hparams)
            num_started += 1
        policy.apply(event)
    assert num_started == len(study.history.searched())


def test_no_trial_starts_with_an_excluded_value_and_unfinished_ones_end(study: Study) -> None:
    trials = [next_searched(study) for _ in range(6)]
    for trial in trials[:3]:
        report_epochs(study, trial, 1)
    excluded = {trial.id for trial in trials if optimizer(trial) == "sgd"}
    assert 0 < len(excluded) < 6
    assert set(request_exclusion(study, "optimizer=sgd")) == excluded
    for trial in trials:
        is_excluded = trial.id in excluded
        assert (trial.status == "stopped") == is_excluded
        assert (trial.reason == "optimizer=sgd excluded by the user") == is_excluded
    assert excluded_values(study.history) == ("optimizer=sgd",)
    again = resumed(study)
    for _ in range(6):
        if (started := again.next_trial()) is not None:
            assert optimizer(started) == "adamw"
    assert len(again.history.searched()) > 6


def test_a_finished_trial_with_an_excluded_value_is_kept(shards: Path, tmp_path: Path) -> None:
    tree = TREE | {"stopping": {"rule": "none"}}
    study = new_study(shards, tmp_path / "studies" / "first", tree)
    train_next(study, 6)
    assert {optimizer(trial) for trial in study.history.done()} == {"adamw", "sgd"}
    assert request_exclusion(study, "optimizer=sgd") == []
    assert len(study.history.done()) == 6


def test_an_exclusion_that_a_killed_launcher_recorded_alone_ends_its_trials(study: Study) -> None:
    trials = [next_searched(study) for _ in range(5)]
    study.journal.append(ValueExcluded("optimizer", "sgd"))
    again = resumed(study)
    states = {trial.id: again.history.trials[trial.id].status for trial in trials}
    assert {states[trial.id] for trial in trials if optimizer(trial) == "sgd"} == {"stopped"}
    assert {states[trial.id] for trial in trials if optimizer(trial) == "adamw"} == {"running"}


def test_a_trial_that_cannot_be_stopped_is_named_in_one_line(study: Study) -> None:
    train_next(study, 1)
    trial = next_searched(study)
    study.fail(trial.id, "nan-loss")
    for name, message in (
        ("t0099", "--trial t0099: the study has no such trial"),
        ("benchmark", "--trial benchmark: a baseline"),
        (trial.id, rf"--trial {trial.id}: it has ended already \(failed\)"),
    ):
        with pytest.raises(StudyError, match=message) as rejected:
            request_trial(study, name)
        assert "\n" not in str(rejected.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer", "give NAME=VALUE"),
        ("optimiser=sgd", "optimiser is no choice of the study; its choices: optimizer"),
        ("learning_rate=0.01", "learning_rate is no choice"),
        ("batch_size=32", "batch_size is no choice"),
        ("optimizer=lion", "no value of optimizer; its values: adamw, sgd"),
    ],
)
def test_a_value_that_cannot_be_excluded_is_named_in_one_line(
    study: Study, text: str, message: str
) -> None:
    with pytest.raises(StudyError, match=message) as rejected:
        request_exclusion(study, text)
    assert "\n" not in str(rejected.value)


def test_the_last_value_that_remains_cannot_be_excluded(study: Study) -> None:
    request_exclusion(study, "optimizer=sgd")
    with pytest.raises(StudyError, match="the last value of optimizer that remains"):
        request_exclusion(study, "optimizer=adamw")
    with pytest.raises(StudyError, match="excluded already"):
        request_exclusion(study, "optimizer=sgd")


def test_a_value_without_which_no_constraint_holds_cannot_be_excluded(
    shards: Path, tmp_path: Path
) -> None:
    tree = PROMOTION | {"constraints": ["optimizer == 'sgd'"]}
    study = new_study(shards, tmp_path / "studies" / "first", tree)
    with pytest.raises(StudyError, match="no configuration without it satisfies"):
        request_exclusion(study, "optimizer=sgd")


@pytest.mark.parametrize(
    "change", ["other study", "damaged", "renamed", "no fields", "both", "shared", "link", "names"]
)
def test_a_file_that_is_no_request_of_this_study_changes_nothing(study: Study, change: str) -> None:
    trial, folder = next_searched(study), study.folder
    request = StopRequest(study.plan.identity, trial=trial.id)
    if change == "other study":
        request = StopRequest("x", trial=trial.id)
    if change == "both":
        request = StopRequest(study.plan.identity, trial.id, "optimizer", "sgd")
    (name,) = write_requests(folder, [request])
    if change == "damaged":
        folder.write(name, folder.read(name)[:-3])
    if change == "renamed":
        folder.write(f"{folder.REQUESTS}/x.json", folder.read(name))
        folder.remove(name)
    if change == "no fields":
        folder.remove(name)
        sha256 = hashlib.sha256(b"{}").hexdigest()
        folder.write(f"{folder.REQUESTS}/{0:020d}-{sha256}.json", b"{}")
    path = Path(folder.path(name))
    if change == "shared":  # a member of the group may have written to it
        path.chmod(0o660)
    if change == "link":
        path.rename(study.folder.local / "x")
        path.symlink_to(study.folder.local / "x")
    if change == "names":
        (study.folder.local / "x").hardlink_to(path)
    num_events = len(study.journal.events)
    assert apply_requests(study) == []
    assert len(study.journal.events) == num_events
    assert folder.names(folder.REQUESTS) == []


def test_a_request_that_is_no_longer_possible_is_ignored(study: Study) -> None:
    trial = next_searched(study)
    request = trial_request(study.plan.identity, study.history, trial.id)
    study.fail(trial.id, "nan-loss")
    write_requests(study.folder, [request])
    assert apply_requests(study) == []
    ends = [event for event in study.journal.events if isinstance(event, TrialEnded)]
    assert [event.reason for event in ends if event.trial == trial.id] == ["nan-loss"]


def test_a_request_in_a_shared_study_is_closed_to_its_group(study: Study) -> None:
    trial, requests = next_searched(study), study.folder.local / study.folder.REQUESTS
    requests.mkdir()
    requests.chmod(0o2770)
    request = trial_request(study.plan.identity, study.history, trial.id)
    (name,) = write_requests(study.folder, [request])
    assert stat.S_IMODE((study.folder.local / name).stat().st_mode) == 0o600
    assert apply_requests(study) == [trial.id]
