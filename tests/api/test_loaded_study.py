"""A study as it is read from Python."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import raysearch
from raysearch.cli import run
from raysearch.errors import StudyError
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.stored_study import load_study
from raysearch.selection.selection import select

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def study(studies: str) -> raysearch.Study:
    return raysearch.load("first", studies)


def test_the_public_names_are_those_of_the_reference_and_are_imported_when_used() -> None:
    assert raysearch.__all__ == ["ChampionSummary", "Space", "Study", "launch", "load"]
    assert set(raysearch.__all__) <= set(dir(raysearch))
    reference = (Path(__file__).parents[2] / "docs/reference/python-api.md").read_text()
    for name in raysearch.__all__:
        assert f"raysearch.api.{getattr(raysearch, name).__module__.split('.')[-1]}:{name}\n" in (
            reference
        )
    script = "import raysearch, sys; print('raysearch.api' in sys.modules); raysearch.load"
    script += "; print(*{'torch', 'ray', 'mlflow'} & set(sys.modules))"
    output = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout
    assert output.split() == ["False"]
    with pytest.raises(AttributeError, match="no attribute 'lauch'"):
        raysearch.lauch  # noqa: B018


def test_the_trials_are_the_rows_of_the_csv_file(study: raysearch.Study, tmp_path: Path) -> None:
    table = study.trials
    assert run(["results", "first", "--csv", str(tmp_path / "trials.csv")]) == 0
    with (tmp_path / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(table.columns) == list(rows[0])
    assert table["trial"].tolist() == [row["trial"] for row in rows]
    champion = table[table["champion"]]
    assert study.champion is not None
    assert champion["trial"].tolist() == [study.champion.trial]
    assert champion["objective"].item() == pytest.approx(float(rows[0]["objective"]))


def test_the_champion_and_its_out_of_fold_scores(study: raysearch.Study) -> None:
    champion = study.champion
    assert champion is not None
    assert champion.model == "models:/first@champion"
    assert champion.temperature > 0
    scores = study.scores()
    assert len(scores) == 240
    assert sorted(scores["row"]) == list(range(240))
    # A patient is in one fold, and the probabilities of a row sum to 1.
    assert scores.groupby("patient")["fold"].nunique().max() == 1
    names = [name for name in map(str, scores) if name.startswith("score_")]
    assert np.allclose(scores[names].sum(axis=1), 1)
    auroc = roc_auc_score(scores["label"] == "positive", scores["score_positive"])
    # The support's study has no stored intervals.
    assert champion.objective is None
    stored = load_study(StudyFolder(f"{study.studies}/first"))
    (trial,) = stored.history.done()
    pooled = select(StudyFolder(f"{study.studies}/first"), stored.plan, stored.history)
    assert auroc == pytest.approx(pooled.candidate_of(trial).objective.value, abs=1e-9)
    assert study.scores(champion.trial).equals(scores)
    with pytest.raises(StudyError, match="'t9999' is no finished trial of 'first'"):
        study.scores("t9999")


def test_optuna_has_the_searched_trials(study: raysearch.Study) -> None:
    searched = study.trials[study.trials["kind"] == "trial"]
    trials = study.to_optuna().trials
    assert sorted(trial.user_attrs["trial"] for trial in trials) == sorted(searched["trial"])


def test_the_folder_of_the_studies_is_that_of_the_environment(
    study: raysearch.Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert raysearch.load("first").trials.equals(study.trials)
    assert repr(study).startswith("Study('first', ")
    monkeypatch.chdir(Path(study.studies).parent)
    relative = raysearch.load("first", "studies")
    monkeypatch.chdir(tmp_path)
    relative.refresh()
    assert relative.studies == study.studies
    monkeypatch.delenv("RAYSEARCH_STUDIES")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match="no study 'first'"):
        raysearch.load("first")


def test_a_wrong_option_of_a_selection_is_the_error_of_the_command(study: raysearch.Study) -> None:
    with pytest.raises(StudyError, match="--threshold-by recall: must be one of"):
        study.select(threshold_by="recall")
