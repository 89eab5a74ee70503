"""Records the class-prior baseline, which a study's trials have to exceed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from raysearch.config.custom_code import load_metrics
from raysearch.data.shards.rows import load_rows
from raysearch.data.splits.folds import fold_indices
from raysearch.metrics.classification import classification_metrics, mean_if_all_defined
from raysearch.search.journal.events import FoldReport
from raysearch.search.journal.history import MAJORITY
from raysearch.search.study.stored_study import read_splits
from raysearch.search.study.study import Study


def record_majority(study: Study) -> None:
    """Record the class-prior baseline in the study's journal as a trial of its own, once.

    It predicts, for each validation patch, the class frequencies of the training patches.
    """
    trial = study.history.trials.get(MAJORITY)
    if trial is not None and trial.status != "running":
        return
    folds = study.plan.splits[0].folds
    if trial is None:
        study.start(MAJORITY, "majority", {"folds": folds})
    for report in _reports(study, folds):
        study.report(report)


def _reports(study: Study, folds: int) -> Iterator[FoldReport]:
    """A report at the end of each fold."""
    rows = load_rows(study.plan.data, study.plan.view)
    split = read_splits(study.folder, study.plan)[folds]
    values: list[float | None] = []
    custom = load_metrics(study.plan.space.custom_metrics)
    indices = fold_indices(rows.groups(study.plan.view.by), split)
    for fold, (train_indices, val_indices) in enumerate(indices):
        counts = np.bincount(rows.labels[train_indices], minlength=len(rows.class_names))
        probabilities = np.tile(counts / len(train_indices), (len(val_indices), 1))
        metrics = classification_metrics(
            rows.labels[val_indices], probabilities, rows.class_names, custom
        )
        values.append(metrics[study.plan.space.metric])
        yield FoldReport(
            trial=MAJORITY,
            fold=fold,
            epoch=(fold + 1) * study.plan.space.epochs,
            objective=mean_if_all_defined(values),
            metrics=metrics,
            loss=metrics["log_loss"],
            seconds=0.0,
        )
