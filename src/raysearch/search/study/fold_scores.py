"""The validation scores of a study's trials, as Parquet files in its folder."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysearch.errors import StudyError
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan
from raysearch.training.fold_training import ValidationScores
from raysearch.training.loop import FoldEpoch, probabilities
from raysearch.training.training_data import TrainingData


@dataclass(frozen=True)
class OutOfFold:
    """Out-of-fold scores: each patch scored by the network that was not trained on its patient.

    Args:
        labels: Class of each patch, int64 (N,).
        probabilities: Class probabilities, float64 (N, C).
        patients: Patient of each patch, str (N,).
        folds: Validation fold of each patch, int64 (N,).
        rows: Row of each patch in the study's view of the shards, int64 (N,).
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    patients: NDArray[np.str_]
    folds: NDArray[np.int64]
    rows: NDArray[np.int64]


def encode_fold_epoch_scores(
    fold_epoch: FoldEpoch, val_scores: ValidationScores, data: TrainingData
) -> bytes:
    """Encode the scores after a fold-epoch as Parquet, like `encode_scores`."""
    return encode_scores(fold_epoch.fold, fold_epoch.epoch, val_scores, data)


def encode_scores(fold: int, epoch: int, val_scores: ValidationScores, data: TrainingData) -> bytes:
    """Encode the scores of `fold` after `epoch` fold-epochs as Parquet.

    The columns are patch, patient, label, fold, epoch, and a logit per class.
    """
    num_rows = len(val_scores.rows)
    columns = {
        "patch": pa.array(val_scores.rows),
        "patient": pa.array(data.patients[val_scores.rows].tolist(), pa.string()),
        "label": pa.array(data.labels.cpu().numpy()[val_scores.rows]),
        "fold": pa.array(np.full(num_rows, fold, np.int16)),
        "epoch": pa.array(np.full(num_rows, epoch, np.int32)),
    }
    for number, name in enumerate(data.class_names):
        columns[f"logit_{name}"] = pa.array(val_scores.logits[:, number])
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), buffer, write_page_checksum=True)
    return bytes(buffer.getvalue())


def out_of_fold(folder: StudyFolder, plan: Plan, trial: str, folds: int) -> OutOfFold:
    """Read the scores of `trial` at the ends of all its `folds`.

    Raises:
        StudyError: If a file is missing or damaged.
    """
    epochs = range(plan.space.epochs, plan.total_fold_epochs(folds) + 1, plan.space.epochs)
    return out_of_fold_at(folder, plan, trial, epochs)


def out_of_fold_at(folder: StudyFolder, plan: Plan, trial: str, epochs: Iterable[int]) -> OutOfFold:
    """Read the scores of `trial` after each of `epochs`, which are rungs or fold ends.

    Raises:
        StudyError: If a file is missing or damaged.
    """
    names = (folder.scores(trial, epoch) for epoch in epochs)
    try:
        return _read(folder, plan, names)
    except (FileNotFoundError, pa.ArrowException):
        raise StudyError(
            f"{folder.path(folder.SCORES)}/{trial}: missing or damaged; restore it from a copy"
        ) from None


def repeat_out_of_fold(
    folder: StudyFolder, plan: Plan, trial: str, seed: int, folds: Iterable[int]
) -> OutOfFold | None:
    """Read the scores of `trial` with a repeat `seed` in `folds`.

    Returns:
        The scores; None if a file is missing or damaged, because it can be computed again.
    """
    try:
        names = (folder.repeat_scores(trial, seed, fold) for fold in folds)
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
