"""Hyperparameter importances of studies with known effects, and compared with Optuna's."""

from pathlib import Path

import optuna
import pytest

from raysearch.analysis.hyperparameter_importance import (
    HyperparameterImportances,
    hyperparameter_importances,
)
from raysearch.search.sampling.optuna_export import ExportedStudy, export_study
from raysearch.search.study.study import Study
from support.figure_studies import figure_study
from support.result_studies import TREE, fold_report, new_study, next_searched


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    return figure_study(shards, tmp_path / "studies" / "seen")


def importances_of(study: Study) -> HyperparameterImportances:
    return hyperparameter_importances(study.plan, study.history.searched())


def test_the_hyperparameter_with_the_largest_effect_is_the_most_important(study: Study) -> None:
    importances = importances_of(study)
    assert importances.fractions[0][0] == "learning_rate"
    fractions = dict(importances.fractions)
    assert fractions["learning_rate"] > 0.8
    assert set(fractions) == {"optimizer", "momentum", "learning_rate", "width"}
    assert all(0 <= fraction <= 1 for fraction in fractions.values())
    num_reports = [len(trial.reports) for trial in study.history.searched() if trial.reports]
    assert importances.num_trials == len(num_reports)
    assert importances.num_reports == sum(num_reports)
    assert importances_of(study) == importances
    assert [interval.name for interval in importances.intervals] == list(fractions)
    for interval in importances.intervals:
        assert 0 <= interval.low <= fractions[interval.name] <= interval.high <= 1
    widest, *others = importances.intervals
    assert widest.low > 2 * max(interval.high for interval in others[1:])


@pytest.mark.filterwarnings("ignore")
def test_the_most_important_one_is_that_of_optunas_fanova(study: Study, tmp_path: Path) -> None:
    plan, path = study.plan, tmp_path / "a.log"
    export_study(
        ExportedStudy("seen", plan.space, plan.fingerprint, plan.identity, study.history), path
    )
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    optuna_importances = optuna.importance.get_param_importances(
        optuna.load_study(study_name="seen", storage=optuna.storages.JournalStorage(backend)),
        evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
    )
    assert next(iter(optuna_importances)) == importances_of(study).fractions[0][0]


def test_a_hyperparameter_that_depends_on_a_fixed_one_counts(shards: Path, tmp_path: Path) -> None:
    space = {**TREE["space"], "optimizer": "sgd"}
    study = new_study(shards, tmp_path / "x", TREE | {"space": space, "trials": 20})
    for _ in range(20):
        trial = next_searched(study)
        for epoch in range(1, 9):
            study.report(fold_report(trial.id, epoch, float(trial.hparams["momentum"])))
    assert dict(importances_of(study).fractions)["momentum"] > 0.5


def test_importances_of_few_or_equal_reports_are_undefined(shards: Path, tmp_path: Path) -> None:
    study = new_study(shards, tmp_path / "x", TREE | {"trials": 20})
    study.report(fold_report(next_searched(study).id, 1, 0.7))
    importances = importances_of(study)
    assert importances.fractions == ()
    assert importances.reason_undefined == "too few trials: 20 with reports are needed, not 1"
    for _ in range(19):
        study.report(fold_report(next_searched(study).id, 1, 0.7))
    assert importances_of(study).reason_undefined == "every report has the same value"
