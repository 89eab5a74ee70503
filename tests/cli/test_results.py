"""`raysearch results`: a table that is not clipped, and a CSV file with everything."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from raysearch.cli import run
from raysearch.cli.leaderboard_table import MIN_WIDE_WIDTH, leaderboard_table
from raysearch.cli.safe_console import SafeConsole
from raysearch.data.csv_files import read_csv
from raysearch.metrics.interval import Interval
from raysearch.search.study.study import Study
from raysearch.selection.selection import select
from raysearch.selection.stored_intervals import write_intervals
from support.champion_studies import REFIT_DECISION
from support.figure_studies import figure_study
from support.result_studies import TREE, fold_report, new_study, next_searched
from support.scored_trials import four_trials_study


@pytest.fixture
def study(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The study `seen` of the working directory: four finished trials, a champion, a failure."""
    monkeypatch.chdir(tmp_path)
    study = four_trials_study(shards, tmp_path / "studies" / "seen")
    selection = select(study.folder, study.plan, study.history)
    write_intervals(study.folder, selection)
    study.record_champion(selection.chosen, REFIT_DECISION)
    return study


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│").split("│")]


def table_rows(text: str) -> list[dict[str, str]]:
    """Return the rows of a printed leaderboard by the headers of its columns."""
    lines = text.splitlines()
    (header,) = [line for line in lines if line.startswith("┃ trial")]
    names = cells(header.replace("┃", "│"))
    return [dict(zip(names, cells(line), strict=True)) for line in lines if line.startswith("│ ")]


def test_80_columns_show_what_decides_between_trials(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["results", "seen"]) == 0
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 80
    assert "…" not in output
    rows = {row["trial"].removesuffix(" *"): row for row in table_rows(output)}
    selection = select(study.folder, study.plan, study.history)
    for candidate in selection.candidates:
        trial, row = candidate.trial, rows[candidate.trial.id]
        assert row["state"] == "finished"
        assert row["auroc"] == f"{trial.objective:.4f}"
        assert row["95 %"] == f"{candidate.objective.low:.3f} to {candidate.objective.high:.3f}"
        assert (row["folds"], row["minutes"]) == ("2/2", "0.03")
    assert f"Champion  {selection.chosen.id}: width=" in output
    assert f"{MIN_WIDE_WIDTH} columns also show the hyperparameters" in " ".join(output.split())
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["results", "seen"]) == 0
    (row,) = [row for row in table_rows(capsys.readouterr().out) if "*" in row["trial"]]
    assert row["hyperparameters"].startswith("width=")
    assert row["by fold"].count(".") == 2


@pytest.mark.parametrize("metric", ["auroc", "balanced_accuracy", "f1"])
@pytest.mark.parametrize("folds", [10, {"choice": [2, 10]}])
def test_no_number_is_cut_at_80_columns(
    shards: Path, tmp_path: Path, metric: str, folds: Any
) -> None:
    tree = {**TREE, "objective": {"metric": metric}, "stopping": {"rule": "none"}}
    tree["space"] = {**TREE["space"], "folds": folds}
    study = new_study(shards, tmp_path / "x", tree)
    trial = next_searched(study)
    end = study.total_fold_epochs(trial)
    for epoch in range(1, end + 1):
        pooled = 0.5678 if epoch == end and len(study.plan.splits) > 1 else None
        metrics = {metric: 0.1234}
        report = fold_report(trial.id, epoch, 0.1234, metrics=metrics, seconds=9e4, pooled=pooled)
        study.report(report)
    study.record_champion(trial, REFIT_DECISION)
    console = SafeConsole(width=80, file=io.StringIO(), record=True)
    intervals = {trial.id: Interval(-0.123, -0.1, -0.045)}
    console.print(leaderboard_table(study.plan, study.history, 80, intervals=intervals))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    rows = [row for row in table_rows(text) if row["trial"] == f"{trial.id} *"]
    assert len(rows) == 1  # no cell is folded
    (row,) = rows
    assert row["95 %"] == "-0.123 to -0.045"
    assert row["folds"] == f"{trial.folds}/{trial.folds}"
    assert row["minutes"] == f"{end * 1500:,}"
    assert row["value" if metric == "balanced_accuracy" else metric] == "0.1234"
    assert f"by {metric}" in text.splitlines()[0]
    if len(study.plan.splits) > 1:
        assert row["pooled"] == "0.5678"


def test_the_number_of_rows_that_are_left_out_is_printed(
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    study = figure_study(shards, tmp_path / "studies" / "many")
    num_trials = len(study.history.trials)
    for max_rows, num_shown in ((20, 21), (5, 6), (100, num_trials)):
        console = SafeConsole(width=160, file=io.StringIO(), record=True)
        console.print(leaderboard_table(study.plan, study.history, 160, max_rows))
        text = console.export_text()
        # The benchmark is shown beside the first rows; it failed, and ranks last.
        shown = [row["trial"] for row in table_rows(text)]
        assert len(shown) == num_shown
        assert "benchmark" in shown
        assert (f"{num_trials - num_shown} trials are left out" in text) == (max_rows < 100)
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["results", "many", "--rows", "2"]) == 0
    output = capsys.readouterr().out
    text = " ".join(output.split())
    assert f"{num_trials - 3} trials are left out: `raysearch results many --rows N` shows" in text
    assert "Failed    benchmark: not of interest here" in output
    assert ": nan-loss" in output
    assert run(["results", "many", "--rows", "0"]) == 2


def test_the_csv_file_has_every_trial_fold_cost_and_hyperparameter(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["results", "seen", "--csv", "seen.csv"]) == 0
    assert "CSV       seen.csv" in capsys.readouterr().out
    table = read_csv(Path("seen.csv"), "results")
    rows = {row[1]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert set(rows) == set(study.history.trials)
    row, trial = rows["t0001"], study.history.trials["t0001"]
    assert (row["state"], row["champion"], row["metric"]) == ("finished", "true", "auroc")
    assert float(row["objective"]) == trial.objective
    assert float(row["pooled_low"]) < float(row["pooled"]) < float(row["pooled_high"])
    for fold, end in enumerate(trial.fold_ends(study.plan.space.epochs)):
        assert float(row[f"fold_{fold}/auroc"]) == end.metrics["auroc"]
    assert row["costs/parameters"] == "5"
    assert row["hparams/width"] == str(trial.hparams["width"])
    assert (row["folds_done"], row["folds"], row["seconds"]) == ("2", "2", "2.0")
    failed = rows["benchmark"]
    assert (failed["state"], failed["reason"]) == ("failed", "not of interest here")
    assert failed["fold_0/auroc"] == ""
    assert run(["results", "seen", "--csv", "none/seen.csv"]) == 2
    assert "--csv none/seen.csv: no folder none" in capsys.readouterr().err


def test_a_trial_that_has_not_reported_is_in_the_csv_file(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = new_study(shards, tmp_path / "studies" / "new")
    trial = next_searched(study)
    assert run(["results", "new", "--csv", "new.csv"]) == 0
    table = read_csv(Path("new.csv"), "results")
    assert trial.id in table.column("trial")
    assert set(table.column("pooled_low")) == {""}
