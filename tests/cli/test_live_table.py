"""The live table of a running study."""

import io
import os
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from raysearch.cli import live_table
from raysearch.cli.live_estimate import estimated_remaining
from raysearch.cli.live_table import LiveView, StudyView, stderr_in_log
from raysearch.data.step_progress import StepProgress
from raysearch.search.journal.events import StudyLaunched, TrialWarning
from raysearch.search.journal.history import History
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.scheduling.remaining_seconds import RemainingSeconds
from raysearch.search.study.remote_view import RemoteStudyView
from raysearch.search.study.stored_study import load_study
from raysearch.search.study.study import Study
from support.result_studies import TREE, fold_report, new_study, next_searched


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    return new_study(shards, tmp_path / "x")


def states(history: History) -> list[tuple[Any, ...]]:
    return [
        (trial.id, trial.hparams, trial.status, trial.epoch) for trial in history.trials.values()
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_warning_is_shown_by_the_launcher_and_changes_nothing_else(
    study: Study, terminal: bool
) -> None:
    text = Console(width=200, file=io.StringIO(), force_terminal=terminal)
    trial = study.next_trial()
    assert trial is not None
    with LiveView(text) as view:
        view.on_study(study)
        before = states(study.history)
        study.warn(trial.id, "[/y/z.pt]: damaged; the trial starts again")
        assert states(study.history) == before
    assert isinstance(text.file, io.StringIO)
    assert f"{trial.id}: [/y/z.pt]: damaged; the trial starts again" in text.file.getvalue()
    resumed = Study(study.folder, study.plan)
    assert isinstance(resumed.journal.events[-1], TrialWarning)
    assert states(resumed.history) == before


def test_the_best_trial_is_the_one_with_the_best_pooled_scores(
    shards: Path, tmp_path: Path
) -> None:
    tree = TREE | {"stopping": {"rule": "none"}}
    tree["space"] = tree["space"] | {"folds": {"choice": [2, 3]}}
    study = new_study(shards, tmp_path / "x", tree)
    for objective, pooled in ((0.9, 0.7), (0.8, 0.75)):
        trial = next_searched(study)
        end = study.total_fold_epochs(trial)
        for epoch in range(1, end + 1):
            last = pooled if epoch == end else None
            study.report(fold_report(trial.id, epoch, objective, pooled=last))
    text = Console(width=200, file=io.StringIO(), record=True)
    text.print(StudyView(study, text))
    table = text.export_text()
    assert "best auroc 0.7500 (t0001)" in table
    assert "pending" in table
    assert "elapsed" in table


def test_the_remaining_time_is_known_once_the_architecture_is_measured(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    view = StudyView(study, Console(file=io.StringIO()))
    study.add_listener(view.on_event)
    view.estimate.update()
    assert view.remaining() is None
    trial = next_searched(study)
    study.report(fold_report(trial.id, 1, 0.7))
    view.estimate.update()
    remaining = view.remaining()
    assert remaining is not None
    # The trial alone has seven fold-epochs of half a second left.
    assert remaining.total > 3.5
    stored = estimated_remaining(load_study(study.folder))
    assert stored is not None
    assert stored.total == pytest.approx(remaining.total, abs=5)
    monkeypatch.setattr(
        StudyView, "remaining", lambda _view: RemainingSeconds(150, 30, (100.0, 300.0))
    )
    text = Console(width=200, file=io.StringIO(), record=True)
    text.print(view)
    assert "elapsed, about 3:00 (1:40 to 5:00) remaining" in text.export_text()


def test_a_followed_study_that_is_resumed_is_timed_from_its_last_launch(study: Study) -> None:
    followed = RemoteStudyView(study.plan)
    view = StudyView(followed, Console(file=io.StringIO()))
    followed.add_listener(view.on_event)
    resumed = Study(study.folder, study.plan)
    for _ in range(6):
        trial = next_searched(resumed)
        for epoch in range(1, resumed.total_fold_epochs(trial) + 1):
            resumed.report(fold_report(trial.id, epoch, 0.7))
        resumed.stop(trial.id, "not of interest here")
        if len(resumed.history.searched()) == 3:
            resumed.begin()
    start = time.time()
    num_launched = 0
    for event in resumed.journal.events:
        # The first launch was a day ago, the second a minute.
        num_launched += isinstance(event, StudyLaunched)
        followed.apply(replace(event, time=start - (86400 if num_launched < 2 else 60)))
    assert num_launched == 2
    view.estimate.update()
    remaining = view.remaining()
    assert remaining is not None
    assert remaining.total < 3600


def test_a_step_of_the_launcher_has_a_bar_until_the_next_status(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = Console(width=200, file=io.StringIO(), force_terminal=True)
    view = LiveView(text)
    view.on_study(study)
    view.on_status("refitting t0000 on all patients")
    view.on_progress(StepProgress("refitting t0000 on all patients", 2.5, 8, "epochs"))
    monkeypatch.setattr(StudyView, "remaining", lambda _view: RemainingSeconds(4000, 0))
    shown = rendered(view)
    assert "refitting t0000 on all patients ..." in shown
    assert "2.5 of 8 epochs" in shown
    assert "remaining" not in shown  # the time of the search would contradict that of the step
    view.on_status("registering the champion")
    assert "epochs" not in rendered(view).partition("fold-epochs")[0]


def rendered(view: LiveView) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(view)
    return console.export_text()


def test_a_step_is_printed_from_time_to_time_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live_table, "STEP_LINE_S", 0.0)
    text = Console(width=200, file=io.StringIO())
    LiveView(text).on_progress(StepProgress("refitting t0000", 2, 8, "epochs"))
    assert isinstance(text.file, io.StringIO)
    assert text.file.getvalue() == "refitting t0000: 2 of 8 epochs\n"


def test_the_log_of_a_remote_study_is_in_the_cache_and_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    for line in (b"first\n", b"second\n"):
        with stderr_in_log(StudyFolder("memory://studies/first")):
            os.write(2, line)
    log = tmp_path / "cache" / "logs" / "first" / "launch.log"
    assert log.read_bytes() == b"first\nsecond\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
