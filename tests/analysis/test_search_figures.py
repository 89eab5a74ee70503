"""The figures of a study: what they are of, and how they look in a terminal and on a page."""

import io
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import optuna
import pytest
from rich.console import Console

from raysearch.analysis.search_figures import Figures, study_figures
from raysearch.cli import run
from raysearch.cli.results_text import figures_text
from raysearch.reports.search_page import figures_page
from raysearch.search.study.optuna_export import export_study
from raysearch.search.study.study import Study
from support.result_studies import TREE, feed, new_study, next_searched, report, run_on


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    # Drawn at random, so that no change of the default sampler changes what is seen here.
    tree = TREE | {"trials": 24, "sampler": "random", "seed": 4}
    study = new_study(shards, tmp_path / "studies" / "seen", tree)
    run_on(study, 22)
    study.fail(next_searched(study).id, "nan-loss")
    study.report(next_searched(study).id, report(1, 0.99))
    return study


def text(figures: Figures, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(figures_text(figures, width))
    return console.export_text()


def with_folds(shards: Path, place: Path) -> Study:
    tree = TREE | {"space": {**TREE["space"], "folds": {"choice": [2, 3]}}}
    study = new_study(shards, place, tree)
    run_on(study, 12)
    return study


def test_the_hyperparameter_that_matters_is_the_most_important(study: Study) -> None:
    [figures] = study_figures(study.plan, study.history)
    found = figures.importance
    assert found.fractions[0][0] == "learning_rate"
    fractions = dict(found.fractions)
    assert fractions["learning_rate"] > 0.8
    assert set(fractions) == {"optimizer", "momentum", "learning_rate", "width"}
    assert all(0 <= fraction <= 1 for fraction in fractions.values())
    told = [one for one in study.history.searched() if one.reports]
    assert (found.trials, found.reports) == (len(told), sum(len(one.reports) for one in told))
    assert study_figures(study.plan, study.history)[0].importance == found


@pytest.mark.filterwarnings("ignore")
def test_the_order_is_that_of_optunas_fanova_where_that_can_tell(
    study: Study, tmp_path: Path
) -> None:
    export_study(study.plan, study.history, tmp_path / "a.log")
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "a.log"))
    )
    theirs = optuna.importance.get_param_importances(
        optuna.load_study(study_name="seen", storage=storage),
        evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
    )
    ours = study_figures(study.plan, study.history)[0].importance.fractions
    assert next(iter(theirs)) == ours[0][0]


def test_a_hyperparameter_that_hangs_on_a_fixed_one_counts(shards: Path, tmp_path: Path) -> None:
    inner = {**TREE["space"], "optimizer": "sgd"}
    study = new_study(shards, tmp_path / "x", TREE | {"space": inner})
    for _ in range(12):
        trial = next_searched(study)
        for epoch in range(1, 9):
            study.report(trial.id, report(epoch, float(trial.hparams["momentum"])))
    fractions = dict(study_figures(study.plan, study.history)[0].importance.fractions)
    assert fractions["momentum"] > 0.5


def test_the_best_so_far_is_of_finished_trials_alone(study: Study) -> None:
    found = study_figures(study.plan, study.history)[0].progress
    trials = [one for one in study.history.searched() if one.status == "finished"]
    assert found.spent == sum(len(one.reports) for one in study.history.searched())
    assert found.best[-1][1] == max(float(one.reports[-1]["objective"]) for one in trials)
    assert found.points[-1].objective == 0.99  # it runs, and is in no line
    assert [value for _spent, value in found.best] == sorted(value for _spent, value in found.best)


def test_the_least_is_best_where_that_is_asked_for(shards: Path, tmp_path: Path) -> None:
    tree = TREE | {"objective": {"metric": "log_loss", "mode": "min"}}
    study = new_study(shards, tmp_path / "x", tree)
    run_on(study, 12)
    [figures] = study_figures(study.plan, study.history)
    values = [value for _spent, value in figures.progress.best]
    assert values == sorted(values, reverse=True)
    best = figures.coordinates.lines[0].trial
    assert best.status == "finished"
    assert best.objective == min(
        one.objective or 9 for one in study.history.searched() if one.status == "finished"
    )


def test_numbers_of_folds_are_kept_apart(shards: Path, tmp_path: Path) -> None:
    study = with_folds(shards, tmp_path / "x")
    two, three = study_figures(study.plan, study.history)
    assert (two.folds, three.folds) == (2, 3)
    for one in (two, three):
        trials = {line.trial.folds for line in one.coordinates.lines}
        assert trials == {one.folds}
        assert {point.trial for point in one.progress.points} == {
            line.trial.id for line in one.coordinates.lines
        }
        assert "folds" not in dict(one.importance.fractions)
        assert f"trials over {one.folds} folds" in text(one)
    page = figures_page(study.plan, study.history, [two, three])
    assert page.count("Values of different numbers of folds are not compared.") == 2


def test_a_study_that_has_begun_has_figures_of_what_there_is(shards: Path, tmp_path: Path) -> None:
    study = new_study(shards, tmp_path / "x")
    study.fail(next_searched(study).id, "nan-loss")
    assert study_figures(study.plan, study.history) == []
    assert "No figures yet" in figures_page(study.plan, study.history, [])
    study.report(next_searched(study).id, report(1, 0.7))
    [figures] = study_figures(study.plan, study.history)
    shown = text(figures)
    assert "4 trials with reports are needed, there are 1" in shown
    assert "no trial has finished" in shown
    assert "1 of 1 trials" in shown
    for _ in range(3):
        study.report(next_searched(study).id, report(1, 0.7))
    [figures] = study_figures(study.plan, study.history)
    assert "every report has the same value" in text(figures)
    assert "<svg" in figures_page(study.plan, study.history, [figures])


def test_a_trial_that_waits_is_drawn_as_one_that_runs(study: Study) -> None:
    study.history.searched()[-1].status = "paused"
    [figures] = study_figures(study.plan, study.history)
    assert not figures.progress.points[-1].finished
    assert "22 of 24 trials have ended" not in figures_page(study.plan, study.history, [figures])
    assert "23 of 24 trials have ended" in figures_page(study.plan, study.history, [figures])


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(study: Study, width: int) -> None:
    [figures] = study_figures(study.plan, study.history)
    shown = text(figures, width)
    assert max(map(len, shown.splitlines())) <= width
    for name in ("learning_rate", "optimizer", "momentum", "width"):
        assert shown.count(name) >= 2
    for mark in ("█", "●", "├"):
        assert mark in shown
    assert any("\u2801" <= mark <= "\u28ff" for mark in shown)


def test_the_page_stands_alone_and_can_be_read_without_seeing(study: Study) -> None:
    figures = study_figures(study.plan, study.history)
    page = figures_page(study.plan, study.history, figures)
    assert "prefers-color-scheme: dark" in page
    for outside in ("http:", "https:", "src=", "<script", "@import"):
        assert outside not in page
    drawings = [part.split("</svg>")[0] + "</svg>" for part in page.split("<svg")[1:]]
    assert len(drawings) == 3
    for one in drawings:
        assert ET.fromstring("<svg" + one).attrib["aria-label"]
    for trial in study.history.searched():
        assert (f"<td>{trial.id}</td>" in page) == bool(trial.reports)


def test_names_are_no_markup(shards: Path, tmp_path: Path) -> None:
    study = new_study(shards, tmp_path / "x")
    trial = next_searched(study)
    feed(study, trial, 1)
    trial.id = "<b>&"
    page = figures_page(study.plan, study.history, study_figures(study.plan, study.history))
    assert "<b>" not in page


def test_the_command_shows_them_and_writes_the_page(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert study.plan.name == "seen"
    assert run(["results", "--figures", "seen.html"]) == 0
    out = capsys.readouterr().out
    for title in (
        "Leaderboard of seen",
        "Importance of the hyperparameters",
        "Where the best third lies",
    ):
        assert title in out
    assert (tmp_path / "seen.html").read_text().startswith("<!doctype html>")
    assert run(["results", "--figures", "none/seen.html"]) == 2
    assert "no folder none" in capsys.readouterr().err
    assert run(["results", "--json", "--figures", "seen.html"]) == 0
    assert capsys.readouterr().out.startswith("[")
