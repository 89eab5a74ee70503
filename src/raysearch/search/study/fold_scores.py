"""What a trial's models gave the patches that they judged, as the study's folder keeps it."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysearch.errors import StudyError
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan
from raysearch.training.fold_training import Judged
from raysearch.training.loop import FoldEpoch, probabilities
from raysearch.training.training_data import TrainingData


@dataclass(frozen=True)
class OutOfFold:
    """Every judged patch, by the model of the fold that did not learn from its patient.

    `labels` int64 (N,), `probabilities` float64 (N, C), `patients` text (N,), fold by fold;
    `folds` and `rows` int64 (N,), the fold and the row in the study's view of the shards.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    patients: NDArray[np.str_]
    folds: NDArray[np.int64]
    rows: NDArray[np.int64]


def scores_file(done: FoldEpoch, judged: Judged, data: TrainingData) -> bytes:
    """The scores after a fold-epoch as Parquet: patch, patient, fold, epoch, a logit a class."""
    return judged_file(done.fold, done.epoch, judged, data)


def judged_file(fold: int, epoch: int, judged: Judged, data: TrainingData) -> bytes:
    """What was `judged` after `epoch` fold-epochs, in `fold`, as `scores_file` has it."""
    count = len(judged.rows)
    columns: dict[str, Any] = {
        "patch": pa.array(judged.rows),
        "patient": pa.array(data.patients[judged.rows].tolist(), pa.string()),
        "label": pa.array(data.labels.cpu().numpy()[judged.rows]),
        "fold": pa.array(np.full(count, fold, np.int16)),
        "epoch": pa.array(np.full(count, epoch, np.int32)),
    }
    for number, name in enumerate(data.class_names):
        columns[f"logit_{name}"] = pa.array(judged.logits[:, number])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, write_page_checksum=True)
    return bytes(sink.getvalue())


def out_of_fold(folder: StudyFolder, plan: Plan, trial: str, folds: int) -> OutOfFold:
    """What `trial`, which has ended all its `folds`, gave at the end of each.

    StudyError where the study's files have lost it.
    """
    ends = range(plan.space.epochs, plan.whole(folds) + 1, plan.space.epochs)
    return scores_after(folder, plan, trial, ends)


def scores_after(folder: StudyFolder, plan: Plan, trial: str, epochs: Iterable[int]) -> OutOfFold:
    """What the models of `trial` gave after `epochs`, rungs or fold ends, each in its own fold.

    StudyError where the study's files have lost it.
    """
    names = (folder.scores(trial, epoch) for epoch in epochs)
    try:
        return _read(folder, plan, names)
    except (FileNotFoundError, pa.ArrowException):
        raise StudyError(
            f"{folder.path(folder.SCORES)}/{trial}: missing or damaged; restore it from a copy"
        ) from None


def out_of_fold_again(
    folder: StudyFolder, plan: Plan, trial: str, seed: int, folds: Iterable[int]
) -> OutOfFold | None:
    """What the nets of `trial` with a fresh `seed` gave the patches of `folds`.

    None where a file of it is missing or damaged: it can be trained again.
    """
    try:
        names = (folder.again_scores(trial, seed, fold) for fold in folds)
        return _read(folder, plan, names)
    except (FileNotFoundError, pa.ArrowException):
        return None


def _read(folder: StudyFolder, plan: Plan, names: Iterable[str]) -> OutOfFold:
    files = [folder.read(name) for name in names]
    table = pa.concat_tables([pq.read_table(io.BytesIO(file)) for file in files])
    logits = np.column_stack([table[f"logit_{name}"].to_numpy() for name in plan.class_names])
    return OutOfFold(
        table["label"].to_numpy(),
        np.asarray(probabilities(logits), np.float64),
        np.array(table["patient"].to_pylist()),
        table["fold"].to_numpy().astype(np.int64),
        table["patch"].to_numpy(),
    )
