"""The tables of a report that compare the best trials of a choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raysearch.reports.answer_tables import answer_tables, study_answers
from raysearch.search.study.study import Study
from support.result_studies import new_study, next_searched
from support.scored_trials import record_noisy_trial

TREE: dict[str, Any] = {
    "epochs": 2,
    "trials": 4,
    "seed": 1,
    "sampler": "grid",
    "stopping": {"rule": "none"},
    "space": {
        "folds": 2,
        "architecture": {"choice": ["cnn", "p4m"]},
        "width": {"choice": [4, 8]},
        "batch_size": 32,
    },
}


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    """A grid of four trials; the scores of `p4m` have less noise."""
    study = new_study(shards, tmp_path / "studies" / "answers", TREE)
    for _trial in range(4):
        trial = next_searched(study)
        is_better = trial.hparams["architecture"] == "p4m"
        record_noisy_trial(study, trial, shards, 1.0 if is_better else 4.0)
    return study


def test_a_choice_with_several_values_has_a_table_with_the_best_first(study: Study) -> None:
    answers, notes = study_answers(study.folder, study.plan, study.history)
    assert not notes
    assert set(answers) == {"architecture"}
    (table,) = answer_tables(answers, "auroc")
    assert table.title == "Best trial by architecture"
    assert len(table.columns) == len(table.rows[0]) == len(table.rows[1])
    best, other = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert (best["architecture"], other["architecture"]) == ("p4m", "cnn")
    assert best["finished"] == other["finished"] == "2"
    assert float(best["auroc"]) > float(other["auroc"])
    assert best["difference from best"] == ""
    assert float(other["difference from best"]) < 0
    assert " to " in other["95 % CI of the difference"]


def test_scores_that_are_gone_leave_the_table_out_with_a_note(study: Study) -> None:
    for path in (study.folder.local / "scores").rglob("*.parquet"):
        path.unlink()
    answers, (note,) = study_answers(study.folder, study.plan, study.history)
    assert answers == {}
    assert note.startswith("no table of architecture: ")
