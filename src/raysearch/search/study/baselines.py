"""What a study's trials have to beat: the majority class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from raysearch.data.patches import load_rows
from raysearch.data.splits.folds import fold_indices
from raysearch.metrics.classification import mean_of_all, score
from raysearch.search.journal.history import MAJORITY
from raysearch.search.study.study import Study, read_splits


def record_majority(study: Study) -> None:
    """Write the majority class into the study's journal as a trial of its own, once.

    It knows the class shares of the patches to learn from, and gives every judged patch these.
    """
    known = study.history.trials.get(MAJORITY)
    if known is not None and known.status != "running":
        return
    folds = study.plan.splits[0].folds
    if known is None:
        study.start(MAJORITY, "majority", {"folds": folds})
    for report in _reports(study, folds):
        study.report(MAJORITY, report)


def _reports(study: Study, folds: int) -> Iterator[dict[str, Any]]:
    """A report at each fold's end."""
    rows = load_rows(study.plan.data, study.plan.view)
    split = read_splits(study.folder, study.plan)[folds]
    metric = study.plan.space.metric
    values: list[float | None] = []
    sides = fold_indices(rows.groups(study.plan.view.by), split)
    for fold, (learned, judged) in enumerate(sides):
        fractions = np.bincount(rows.labels[learned], minlength=len(rows.class_names)) / len(
            learned
        )
        metrics = score(rows.labels[judged], np.tile(fractions, (len(judged), 1)), rows.class_names)
        values.append(metrics[metric])
        yield {
            "epoch": (fold + 1) * study.plan.space.epochs,
            "fold": fold,
            "objective": mean_of_all(values),
            "loss": metrics["log_loss"],
            "metrics": metrics,
            "seconds": 0.0,
        }
