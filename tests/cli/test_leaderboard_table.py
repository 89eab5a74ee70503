"""The leaderboard of a study and the table of its champion."""

import io
import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console

from raysearch.cli.leaderboard_table import champion_table, leaderboard_rows, leaderboard_table
from raysearch.config.space_file import parse_space
from raysearch.search.journal.history import Trial, leaderboard
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.baselines import record_majority
from raysearch.search.study.plan_creation import make_plan
from raysearch.search.study.study import Study, create_study
from support.result_studies import TREE, fold_report, new_study, next_searched


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    return new_study(shards, tmp_path / "x")


def test_a_reason_with_brackets_is_printed_unchanged(study: Study) -> None:
    trial = study.next_trial()
    assert trial is not None
    study.fail(trial.id, "RuntimeError at [/y/z.cpp:3]")
    text = Console(width=200, file=io.StringIO(), record=True)
    text.print(leaderboard_table(study.plan, study.history, 200))
    assert "[/y/z.cpp:3]" in text.export_text()


def test_a_table_of_many_folds_shows_their_range(study: Study) -> None:
    for folds, heading in ((3, "fold 2"), (9, "lowest")):
        trial = Trial("t0000", "trial", {}, 0, folds)
        for fold in range(folds):
            values = dict.fromkeys(("auroc", "average_precision", "accuracy", "f1"), fold / 10)
            metrics = values | {"balanced_accuracy": None if fold == 1 else 0.5}
            epoch = (fold + 1) * study.plan.space.epochs
            trial.reports.append(fold_report(trial.id, epoch, 0.5, metrics=metrics))
        text = Console(width=200, file=io.StringIO(), record=True)
        text.print(champion_table(study.plan, trial))
        table = text.export_text()
        assert heading in table
        assert ("fold 2" in table) == (folds == 3)
        (auroc,) = [line for line in table.splitlines() if "auroc" in line]
        numbers = [float(number) for number in re.findall(r"\d\.\d+", auroc)]
        assert numbers == ([0, 0.1, 0.2, 0.1] if folds == 3 else [0, 0.4, 0.8, 0.4])
        (balanced,) = [line for line in table.splitlines() if "balanced" in line]
        # The mean is over all folds, or undefined.
        assert re.findall(r"(-|0\.\d+) +│", balanced)[-1] == "-"


def test_an_undefined_objective_is_null_and_ranks_last(shards: Path, tmp_path: Path) -> None:
    tree = TREE | {"objective": {"metric": "precision"}}
    plan, splits = make_plan(parse_space(tree, "x"), "x", str(shards))
    study = create_study(StudyFolder(tmp_path / "x"), plan, splits)
    record_majority(study)
    trial = study.next_trial()
    assert trial is not None
    for epoch in range(1, study.total_fold_epochs(trial) + 1):
        study.report(fold_report(trial.id, epoch, 0.01, metrics={"precision": 0.01}))
    ranked = leaderboard(study.history, plan.space)
    assert [trial.id for trial in ranked] == ["benchmark", "majority"]
    assert ranked[-1].objective is None
    text = Console(width=200, file=io.StringIO(), record=True)
    text.print(leaderboard_table(plan, study.history, 200))
    [line] = [line for line in text.export_text().splitlines() if " majority " in line]
    assert [cell.strip() for cell in line.split("│")[3:5]] == ["-", "- -"]


def test_trials_with_several_numbers_of_folds_are_ranked_by_pooled_scores(
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
    text.print(leaderboard_table(study.plan, study.history, 200))
    lines = text.export_text(clear=False).splitlines()
    rows = [
        [cell.strip() for cell in line.split("│")[1:5]] for line in lines if " finished " in line
    ]
    assert rows[:2] == [
        ["t0001", "finished", "0.8000", "0.7500"],
        ["t0000", "finished", "0.9000", "0.7000"],
    ]
    assert "are ranked by their pooled" in text.export_text(clear=False)


def test_the_rows_are_json(study: Study) -> None:
    trial = next_searched(study)
    for epoch in range(1, study.total_fold_epochs(trial) + 1):
        study.report(fold_report(trial.id, epoch, 0.7))
    rows = json.loads(
        json.dumps([asdict(row) for row in leaderboard_rows(study.plan, study.history, {})])
    )
    [row] = [row for row in rows if row["trial"] == trial.id]
    assert (row["state"], row["objective"], row["champion"]) == ("finished", 0.7, False)
    assert row["hparams"] == dict(trial.hparams)
    assert len(row["folds"]) == trial.folds
