"""`raysearch stop --trial` and `--exclude` ask the launcher of a study, or record it themselves."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from raysearch.cli import study_requests
from raysearch.cli.study_requests import RequestedStops, stop_in_study
from raysearch.errors import StudyError
from raysearch.search.journal.events import ValueExcluded
from raysearch.search.study.launcher_lock import launcher_lock
from raysearch.search.study.stop_requests import apply_requests, exclusion_request, write_requests
from raysearch.search.study.stored_study import load_study
from raysearch.search.study.study import Study
from support.result_studies import new_study, next_searched


@pytest.fixture
def study(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study_requests, "POLL_S", 0.1)
    return new_study(shards, tmp_path / "studies" / "first")


def test_a_running_launcher_records_what_the_command_requests(study: Study) -> None:
    trial, ended = next_searched(study), threading.Event()

    def run() -> None:
        while not ended.wait(0.05):
            apply_requests(study)

    launcher = threading.Thread(target=run)
    with launcher_lock(study.folder):
        launcher.start()
        try:
            stops = RequestedStops([trial.id], ["optimizer=sgd"])
            text = stop_in_study(study.folder, stops)
        finally:
            ended.set()
            launcher.join()
    assert text == f"first: {trial.id} is stopped, optimizer=sgd is excluded"
    assert load_study(study.folder).history.trials[trial.id].status == "stopped"
    assert study.folder.names(study.folder.REQUESTS) == []


def test_a_request_that_the_launcher_removes_unrecorded_is_an_error(study: Study) -> None:
    """As one of another account."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(0.05):
            for name in study.folder.names(study.folder.REQUESTS):
                study.folder.remove(f"{study.folder.REQUESTS}/{name}")

    launcher = threading.Thread(target=run)
    with launcher_lock(study.folder):
        launcher.start()
        try:
            with pytest.raises(StudyError, match="the launcher has ignored") as error:
                stop_in_study(study.folder, RequestedStops([], ["optimizer=sgd"]))
        finally:
            ended.set()
            launcher.join()
    assert "\n" not in str(error.value)


def test_a_launcher_that_does_not_search_gets_the_request_later(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_requests, "ANSWER_TIMEOUT_S", 1.0)
    with launcher_lock(study.folder):
        text = stop_in_study(study.folder, RequestedStops([], ["optimizer=sgd"]))
    assert "the launcher has not answered within 1 s" in text
    assert not load_study(study.folder).history.exclusions
    apply_requests(study)  # as the next search does
    assert load_study(study.folder).history.exclusions == (("optimizer", "sgd"),)


def test_without_a_launcher_the_command_records_it(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []

    def send(later: Study) -> str:
        sent.append(len(later.history.trials))
        return ""

    # The slow test of a launch sends to a store.
    monkeypatch.setattr(study_requests, "_send_to_tracking_store", send)
    trial = next_searched(study)
    text = stop_in_study(study.folder, RequestedStops([trial.id], ["optimizer=sgd"]))
    assert text == f"first: {trial.id} is stopped, optimizer=sgd is excluded"
    stored = load_study(study.folder)
    assert stored.history.trials[trial.id].status == "stopped"
    assert sum(isinstance(event, ValueExcluded) for event in stored.events) == 1
    assert sent == [len(stored.history.trials)]


def test_both_values_of_a_choice_cannot_be_excluded_at_once(study: Study) -> None:
    stops = RequestedStops([], ["optimizer=sgd", "optimizer=adamw"])
    with pytest.raises(StudyError, match="the last value of optimizer that remains"):
        stop_in_study(study.folder, stops)
    assert not load_study(study.folder).history.exclusions


def test_without_a_launcher_earlier_requests_are_recorded_first(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_requests, "_send_to_tracking_store", lambda _study: "")
    trial, plan = next_searched(study), study.plan
    earlier = exclusion_request(plan.identity, plan.space, study.history, "optimizer=sgd")
    write_requests(study.folder, [earlier])
    with pytest.raises(StudyError, match="the last value of optimizer that remains"):
        stop_in_study(study.folder, RequestedStops([trial.id], ["optimizer=adamw"]))
    history = load_study(study.folder).history
    assert history.exclusions == (("optimizer", "sgd"),)
    assert history.trials[trial.id].status == "stopped"
