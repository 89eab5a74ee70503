"""Stores the hyperparameter importances of an ended study, which take seconds to compute."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from raysearch.analysis.hyperparameter_importance import (
    HyperparameterImportances,
    hyperparameter_importances,
)
from raysearch.config.json_values import dump_checked, parse_checked
from raysearch.errors import StorageError, StudyError
from raysearch.search.journal.codec import record_from_json, record_to_json
from raysearch.search.journal.history import History
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan

log = logging.getLogger(__name__)
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
    """Compute the importances and store them in the folder of the study.

    If they cannot be stored, a warning is logged: `read_importances` computes them again.
    """
    by_folds = importances_by_folds(plan, history)
    record = StoredImportances(_num_reports(history), by_folds)
    content = dump_checked(record_to_json(record))
    try:
        folder.write(folder.IMPORTANCES, content)
    except (OSError, StorageError) as error:
        log.warning("the importances could not be stored: %s", error)
    return by_folds


def read_importances(folder: StudyFolder, plan: Plan, history: History) -> ImportancesByFolds:
    """Return the stored importances; compute them if they are missing, damaged or outdated.

    Those of earlier versions have no intervals.
    """
    stored = stored_importances(folder)
    if (
        stored is None
        or stored.num_reports != _num_reports(history)
        or any(item.fractions and not item.intervals for item in stored.by_folds.values())
    ):
        return importances_by_folds(plan, history)
    return stored.by_folds


def stored_importances(folder: StudyFolder) -> StoredImportances | None:
    """Read the file of importances; None if it is missing or damaged."""
    try:
        content = parse_checked(folder.read(folder.IMPORTANCES))
        return record_from_json(StoredImportances, content)
    except (OSError, ValueError, StudyError):
        return None


def _num_reports(history: History) -> int:
    return sum(len(trial.reports) for trial in history.searched())
