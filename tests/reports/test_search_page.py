"""The figures of a study as a page."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from raysearch.analysis.search_figures import study_figures
from raysearch.cli import run
from raysearch.reports.html_page import is_report
from raysearch.reports.search_page import search_page
from raysearch.search.study.study import Study
from support.figure_studies import figure_study, study_with_two_numbers_of_folds
from support.result_studies import (
    fold_report,
    new_study,
    next_searched,
    report_epochs,
    train_next,
)


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    return figure_study(shards, tmp_path / "studies" / "seen")


def page_of(study: Study) -> str:
    return search_page(study.plan, study.history, study_figures(study.plan, study.history))


def test_the_page_needs_no_other_file_and_describes_its_drawings(study: Study) -> None:
    page = page_of(study)
    assert "prefers-color-scheme: dark" in page
    for reference in ("http:", "https:", "src=", "<script", "@import"):
        assert reference not in page
    drawings = [part.split("</svg>")[0] + "</svg>" for part in page.split("<svg")[1:]]
    assert len(drawings) == 3
    for drawing in drawings:
        assert ET.fromstring("<svg" + drawing).attrib["aria-label"]
    for trial in study.history.searched():
        assert (f'<td data-label="trial">{trial.id}</td>' in page) == bool(trial.reports)


def test_each_chart_has_a_legend_and_explains_its_trials(study: Study) -> None:
    page = page_of(study)
    for words in (
        *("fraction of the variance", "95 % interval over trials", "Intervals are of 95 %"),
        *("best finished so far", "finished (", "not finished ("),
        *("best third (", "auroc of finished trials, the best at the right"),
    ):
        assert words in page, words


def test_few_trials_have_no_importances_and_the_page_says_why(shards: Path, tmp_path: Path) -> None:
    study = new_study(shards, tmp_path / "x")
    train_next(study, 8)
    page = page_of(study)
    assert "too few trials: 20 with reports are needed, not 8" in page
    assert "95 % interval over trials" not in page


@pytest.mark.usefixtures("study")
def test_the_figures_of_a_study_do_not_replace_its_report(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    opened: list[Path] = []
    monkeypatch.setattr("raysearch.cli.results.open_page", opened.append)
    report = tmp_path / "seen.html"
    report.write_text('<!doctype html><meta name="generator" content="raysearch report">')
    assert run(["results", "seen", "--open"]) == 0
    assert opened == [Path("seen-figures.html")]
    assert not is_report(tmp_path / "seen-figures.html")
    assert run(["results", "seen", "--out", "seen.html"]) == 2
    assert "seen.html is a report; give --out another file" in capsys.readouterr().err
    assert is_report(report)
    assert run(["results", "seen", "--out", "seen-figures.html"]) == 0


def test_a_paused_trial_has_not_ended(study: Study) -> None:
    study.history.searched()[-1].status = "paused"
    assert "23 of 24 trials have ended" in page_of(study)


def test_a_study_without_reports_has_no_figures(shards: Path, tmp_path: Path) -> None:
    study = new_study(shards, tmp_path / "x")
    study.fail(next_searched(study).id, "nan-loss")
    assert "No figures yet" in page_of(study)
    for _ in range(4):
        study.report(fold_report(next_searched(study).id, 1, 0.7))
    assert "<svg" in page_of(study)


def test_numbers_of_folds_are_not_compared(shards: Path, tmp_path: Path) -> None:
    study = study_with_two_numbers_of_folds(shards, tmp_path / "x")
    assert page_of(study).count("Objectives over different numbers of folds are not compared.") == 2


def test_names_are_escaped(shards: Path, tmp_path: Path) -> None:
    study = new_study(shards, tmp_path / "x")
    trial = next_searched(study)
    report_epochs(study, trial, 1)
    trial.id = "<b>&"
    assert "<b>" not in page_of(study)
