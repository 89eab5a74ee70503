"""Stores the hyperparameter importances of an ended study, which take seconds to compute."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from raysearch.analysis.hyperparameter_importance import (
    HyperparameterImportances,
    hyperparameter_importances,
)
from raysearch.errors import StudyError
from raysearch.search.journal.codec import record_from_json, record_to_json
from raysearch.search.journal.history import History
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan

# The importances of the trials with each number of folds.
ImportancesByFolds = Mapping[int, HyperparameterImportances]


@dataclass(frozen=True)
class StoredImportances:
    """The content of a study's file of importances.

    Args:
        num_reports: The reports of searched trials that the study had; with more of them, the
            importances are outdated.
        by_folds: The importances for each number of folds.
    """

    num_reports: int
    by_folds: ImportancesByFolds


def importances_by_folds(plan: Plan, history: History) -> ImportancesByFolds:
    """Compute the importances for each number of folds that a searched trial has reported."""
    trials = history.searched()
    numbers_of_folds = sorted({trial.folds for trial in trials if trial.reports})
    return {
        folds: hyperparameter_importances(plan, [trial for trial in trials if trial.folds == folds])
        for folds in numbers_of_folds
    }


def write_importances(folder: StudyFolder, plan: Plan, history: History) -> ImportancesByFolds:
    """Compute the importances and store them in the folder of the study."""
    by_folds = importances_by_folds(plan, history)
    record = StoredImportances(_num_reports(history), by_folds)
    folder.write(folder.IMPORTANCES, json.dumps(record_to_json(record)).encode())
    return by_folds


def read_importances(folder: StudyFolder, plan: Plan, history: History) -> ImportancesByFolds:
    """Return the stored importances; compute them if they are missing, damaged or outdated."""
    try:
        content = json.loads(folder.read(folder.IMPORTANCES))
        stored = record_from_json(StoredImportances, content)
    except (FileNotFoundError, ValueError, StudyError):
        return importances_by_folds(plan, history)
    if stored.num_reports != _num_reports(history):
        return importances_by_folds(plan, history)
    return stored.by_folds


def _num_reports(history: History) -> int:
    return sum(len(trial.reports) for trial in history.searched())
