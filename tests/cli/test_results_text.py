"""The figures of a study in a terminal."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from raysearch.analysis.search_figures import SearchFigures, study_figures
from raysearch.cli import run
from raysearch.cli.results_text import figures_text
from raysearch.search.study.study import Study
from support.figure_studies import figure_study, study_with_two_numbers_of_folds
from support.result_studies import fold_report, new_study, next_searched


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    return figure_study(shards, tmp_path / "studies" / "seen")


def text_of(figures: SearchFigures, width: int = 80) -> str:
    """Return what a terminal of `width` columns shows."""
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(figures_text(figures, width))
    return console.export_text()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(study: Study, width: int) -> None:
    [figures] = study_figures(study.plan, study.history)
    text = text_of(figures, width)
    assert max(map(len, text.splitlines())) <= width
    for name in ("learning_rate", "optimizer", "momentum", "width"):
        assert text.count(name) >= 2
    for mark in ("█", "●", "├"):
        assert mark in text
    assert any("\u2801" <= mark <= "\u28ff" for mark in text)


def test_a_study_that_has_just_started_has_captions(shards: Path, tmp_path: Path) -> None:
    study = new_study(shards, tmp_path / "x")
    study.report(fold_report(next_searched(study).id, 1, 0.7))
    [figures] = study_figures(study.plan, study.history)
    text = text_of(figures)
    assert "too few trials: 20 with reports are needed, not 1" in text
    assert "no trial has finished" in text
    assert "1 of 1 trials" in text


def test_numbers_of_folds_are_in_the_titles(shards: Path, tmp_path: Path) -> None:
    study = study_with_two_numbers_of_folds(shards, tmp_path / "x")
    for figures in study_figures(study.plan, study.history):
        assert f"trials over {figures.folds} folds" in text_of(figures)


def test_the_command_shows_the_figures_and_writes_the_page(
    study: Study,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert study.plan.name == "seen"
    assert run(["results", "--out", "seen.html"]) == 0
    output = capsys.readouterr().out
    for title in (
        "Leaderboard of seen",
        "Importance of the hyperparameters",
        "Hyperparameters of the best third",
    ):
        assert title in output
    assert (tmp_path / "seen.html").read_text().startswith("<!doctype html>")
    assert run(["results", "--out", "none/seen.html"]) == 2
    assert "no folder none" in capsys.readouterr().err
    assert run(["results", "--json", "--out", "seen.html"]) == 0
    assert json.loads(capsys.readouterr().out)["study"] == "seen"
