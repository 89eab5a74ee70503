"""Stores the intervals of the finished trials' objectives, which a selection computes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raysearch.config.json_values import dump_checked, parse_checked
from raysearch.errors import StorageError, StudyError
from raysearch.metrics.interval import Interval
from raysearch.search.journal.codec import record_from_json, record_to_json
from raysearch.search.journal.history import History, Trial
from raysearch.search.journal.study_folder import StudyFolder

if TYPE_CHECKING:
    from raysearch.selection.selection import Selection

log = logging.getLogger(__name__)
# The interval of each trial that has one.
Intervals = Mapping[str, Interval]


@dataclass(frozen=True)
class StoredInterval:
    """The objective of a trial's pooled out-of-fold scores.

    Args:
        objective: The objective with its 95 % interval by patient.
        scores: A hash over the files of scores that it is computed from.
    """

    objective: Interval
    scores: str


@dataclass(frozen=True)
class StoredIntervals:
    """The content of a study's file of intervals, by trial."""

    trials: Mapping[str, StoredInterval]


def selection_intervals(selection: Selection) -> Intervals:
    """Return the objective of each finished trial with its interval."""
    return {candidate.trial.id: candidate.objective for candidate in selection.candidates}


def write_intervals(folder: StudyFolder, selection: Selection) -> None:
    """Store the intervals of a selection in the folder of the study.

    If they cannot be stored, a warning is logged: nothing is computed from them.
    """
    record = StoredIntervals(
        {
            candidate.trial.id: StoredInterval(candidate.objective, scores_hash(candidate.trial))
            for candidate in selection.candidates
        }
    )
    try:
        folder.write(folder.INTERVALS, dump_checked(record_to_json(record)))
    except (OSError, StorageError) as error:
        log.warning("the intervals of the objectives could not be stored: %s", error)


def read_intervals(folder: StudyFolder, history: History) -> Intervals:
    """Return the stored intervals of the trials whose scores have not changed since.

    A file that is missing or damaged counts as an empty one.
    """
    try:
        content = parse_checked(folder.read(folder.INTERVALS))
        stored = record_from_json(StoredIntervals, content).trials
    except (OSError, ValueError, StudyError):
        return {}
    return {
        name: interval.objective
        for name, interval in stored.items()
        if name in history.trials and interval.scores == scores_hash(history.trials[name])
    }


def scores_hash(trial: Trial) -> str:
    """Return a hash over the files of scores of all fold-epochs of a trial."""
    text = "\n".join(f"{epoch} {sha256}" for epoch, sha256 in sorted(trial.score_hashes.items()))
    return hashlib.sha256(text.encode()).hexdigest()
