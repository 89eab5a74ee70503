"""The live table of a running study."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from raysearch.cli.live_table import LiveView, StudyView, clock
from raysearch.search.journal.events import TrialWarning
from raysearch.search.journal.history import History
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


def test_the_remaining_time_is_known_after_a_quarter_of_the_trials(study: Study) -> None:
    view = StudyView(study, Console(file=io.StringIO()))
    assert view.remaining_seconds() is None
    num_trials = study.plan.space.trials
    while sum(trial.status != "running" for trial in study.history.searched()) < num_trials / 4:
        assert view.remaining_seconds() is None
        trial = next_searched(study)
        for epoch in range(1, study.total_fold_epochs(trial) + 1):
            if trial.status == "running":
                study.report(fold_report(trial.id, epoch, 0.7))
    remaining_s = view.remaining_seconds()
    assert remaining_s is not None
    assert remaining_s > 0


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.9, "1:01"), (3723, "1:02:03")])
def test_a_duration_is_shown_in_minutes(seconds: float, text: str) -> None:
    assert clock(seconds) == text
