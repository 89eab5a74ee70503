"""The out-of-fold scores of a trial, pooled over the folds, and what they say by patient."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysearch.scores.bootstrap import Interval, auroc_interval
from raysearch.search.history import Trial
from raysearch.search.study import Study
from raysearch.training.loop import probabilities


def pooled_auroc(study: Study, trial: Trial) -> Interval | None:
    """The AUROC of `trial` over all development patches, and its 95 % interval by patient.

    Each patch has the score of the fold's model that did not learn from its patient.
    None where there are more than two classes, or the trial has not ended all its folds.
    """
    names = study.plan.class_names
    if len(names) != 2 or trial.epoch < study.whole(trial):
        return None
    ends = range(study.plan.space.epochs, study.whole(trial) + 1, study.plan.space.epochs)
    files = [study.folder.read(study.folder.scores(trial.id, epoch)) for epoch in ends]
    table = pa.concat_tables([pq.read_table(io.BytesIO(file)) for file in files])
    logits = np.column_stack([table[f"logit_{name}"].to_numpy() for name in names])
    return auroc_interval(
        table["label"].to_numpy(),
        probabilities(logits)[:, 1],
        np.array(table["patient"].to_pylist()),
    )
