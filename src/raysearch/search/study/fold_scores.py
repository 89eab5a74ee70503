"""The validation scores of a study's trials, as Parquet files in its folder.

The journal has the SHA-256 of each file, so that no other content is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raysearch.config.report_interval import trial_epochs
from raysearch.data.parquet_files import read_parquet
from raysearch.errors import StudyError, first_line
from raysearch.search.journal.history import Trial
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
    pq.write_table(pa.table(columns), buffer)
    return bytes(buffer.getvalue())


def out_of_fold(folder: StudyFolder, plan: Plan, trial: Trial) -> OutOfFold:
    """Read the scores of `trial` at the ends of all its folds.

    Raises:
        StudyError: If a file is missing, or is not the one that the journal names.
    """
    epochs = trial_epochs(plan.space, trial.hparams)
    ends = range(epochs, trial.folds * epochs + 1, epochs)
    return out_of_fold_at(folder, plan, trial, ends)


def out_of_fold_at(
    folder: StudyFolder, plan: Plan, trial: Trial, epochs: Iterable[int]
) -> OutOfFold:
    """Read the scores of `trial` after each of `epochs`, which are rungs or fold ends.

    Raises:
        StudyError: If a file is missing, or is not the one that the journal names.
    """
    return read_scores(folder, plan, score_files(folder, trial.id, trial.score_hashes, epochs))


def score_files(
    folder: StudyFolder, trial: str, hashes: Mapping[int, str], epochs: Iterable[int]
) -> dict[str, str]:
    """Return the files of the scores of `trial` after each of `epochs`, with their SHA-256.

    Args:
        folder: Folder of the study.
        trial: Name of the trial.
        hashes: The SHA-256 of its files of scores, by fold-epoch.
        epochs: The fold-epochs.

    Raises:
        StudyError: If `hashes` lacks a fold-epoch, or has no SHA-256 for it.
    """
    try:
        return {folder.scores(trial, epoch, hashes[epoch]): hashes[epoch] for epoch in epochs}
    except (KeyError, ValueError) as error:
        raise StudyError(
            f"{folder.path(folder.SCORES)}/{trial}: the journal names no file of scores for a"
            f" fold-epoch ({error}); restore the study from a copy"
        ) from None


def read_scores(folder: StudyFolder, plan: Plan, hashes: Mapping[str, str | None]) -> OutOfFold:
    """Read files of scores, by name and SHA-256; None if the journal has no hash of a file.

    Raises:
        StudyError: If a file is missing or has another hash.
    """
    tables = []
    for name, sha256 in hashes.items():
        try:
            tables.append(read_parquet(folder.read_verified(name, sha256)))
        except FileNotFoundError:
            raise StudyError(f"{folder.path(name)}: missing; restore it from a copy") from None
        except (ValueError, OSError, pa.ArrowException) as error:
            raise StudyError(
                f"{folder.path(name)}: damaged ({first_line(error)}); restore it from a copy"
            ) from None
    try:
        return _convert(pa.concat_tables(tables), plan)
    except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise StudyError(
            f"{folder.path(next(iter(hashes)))}: not scores of this study ({first_line(error)});"
            " restore it from a copy"
        ) from None


def repeat_out_of_fold(
    folder: StudyFolder, plan: Plan, trial: Trial, seed: int, folds: Iterable[int]
) -> OutOfFold | None:
    """Read the scores of `trial` with a repeat `seed` in `folds`.

    Returns:
        The scores; None if a file is missing, or is not the one that the journal names, because it
        can be computed again.
    """
    hashes: dict[str, str | None] = {}
    for fold in folds:
        trained = trial.repeats.get((seed, fold))
        name = folder.repeat_scores(trial.id, seed, fold)
        hashes[name] = None if trained is None else trained.scores
    try:
        return read_scores(folder, plan, hashes)
    except StudyError:
        return None


def _convert(table: pa.Table, plan: Plan) -> OutOfFold:
    logits = np.column_stack([table[f"logit_{name}"].to_numpy() for name in plan.class_names])
    labels = table["label"].to_numpy().astype(np.int64, casting="safe")
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(plan.class_names):
        raise ValueError("a label is none of the classes")
    return OutOfFold(
        labels,
        np.asarray(probabilities(logits), np.float64),
        np.array(table["patient"].to_pylist()),
        table["fold"].to_numpy().astype(np.int64, casting="safe"),
        table["patch"].to_numpy().astype(np.int64, casting="safe"),
    )
