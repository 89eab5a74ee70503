"""The out-of-fold scores of a trial, pooled over the folds, and what they say by patient."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysearch.errors import StudyError
from raysearch.scores.bootstrap import Interval, auroc_interval
from raysearch.search.folder import StudyFolder
from raysearch.search.history import Trial
from raysearch.search.plan import Plan
from raysearch.search.study import Study
from raysearch.training.loop import probabilities


@dataclass(frozen=True)
class OutOfFold:
    """Every judged patch, by the model of the fold that did not learn from its patient.

    `labels` int64 (N,), `probabilities` float64 (N, C), `patients` text (N,), fold by fold.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    patients: NDArray[np.str_]


def out_of_fold(folder: StudyFolder, plan: Plan, trial: Trial) -> OutOfFold:
    """What `trial`, which has ended all its folds, gave at the end of each.

    StudyError where the study's files have lost it.
    """
    ends = range(plan.space.epochs, plan.whole(trial.folds) + 1, plan.space.epochs)
    try:
        files = [folder.read(folder.scores(trial.id, epoch)) for epoch in ends]
        table = pa.concat_tables([pq.read_table(io.BytesIO(file)) for file in files])
    except (FileNotFoundError, pa.ArrowException):
        raise StudyError(
            f"{folder.path(folder.SCORES)}/{trial.id}: missing or damaged; restore it from a copy"
        ) from None
    logits = np.column_stack([table[f"logit_{name}"].to_numpy() for name in plan.class_names])
    patients = np.array(table["patient"].to_pylist())
    return OutOfFold(table["label"].to_numpy(), probabilities(logits), patients)


def pooled_auroc(study: Study, trial: Trial) -> Interval | None:
    """The AUROC of `trial` over all development patches, and its 95 % interval by patient.

    Each patch has the score of the fold's model that did not learn from its patient.
    None where there are more than two classes, or the trial has not ended all its folds.
    """
    if len(study.plan.class_names) != 2 or trial.epoch < study.whole(trial):
        return None
    found = out_of_fold(study.folder, study.plan, trial)
    return auroc_interval(found.labels, found.probabilities[:, 1], found.patients)
