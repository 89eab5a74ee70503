"""Compares the scores of new patches with the out-of-fold scores of the model's training set."""

from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq

from raysearch.champion.stored_champion import champion_scores
from raysearch.data.files import Folder
from raysearch.errors import StudyError, UserError
from raysearch.inference.model_loading import Model, study_folder
from raysearch.inference.prediction import SCORES
from raysearch.metrics.calibration import apply_temperature
from raysearch.metrics.score_shift import (
    MIN_PATIENTS,
    PatientScores,
    calibration_shift,
    score_shift,
)
from raysearch.search.study.stored_study import load_study

NOT_COMPARED = "the scores were not compared with those of the training set"


def training_scores(model: Model) -> PatientScores:
    """Read the calibrated out-of-fold scores of a model from the folder of its study.

    Raises:
        UserError: If the folder is not at hand, or the scores are missing or damaged.
    """
    artifact = model.artifact
    folder = study_folder(model)
    study = load_study(folder)
    trial = study.history.trials.get(artifact.trial)
    if trial is None:
        raise StudyError(f"the study {artifact.study!r} has no trial {artifact.trial}")
    scores = champion_scores(folder, study.plan, trial, artifact.repeat_seed)
    probabilities = apply_temperature(scores.probabilities, artifact.temperature)
    return PatientScores(probabilities, scores.patients, scores.labels)


def shift_notes(model: Model, new: PatientScores) -> list[str]:
    """Return a line for each way in which new scores are unlike those of the training set.

    Args:
        model: The model.
        new: The scores of the new patches; if they have labels, accuracy and confidence are
            compared, too.
    """
    try:
        reference = training_scores(model)
    except UserError as error:
        return [f"{NOT_COMPARED}: {error}"]
    notes = []
    if new.num_patients >= MIN_PATIENTS:
        shift = score_shift(reference, new, model.artifact.class_names)
        notes += [str(shift)] if shift.is_notable else []
    if new.labels is not None:
        calibration = calibration_shift(reference, new)
        notes += [str(calibration)] if calibration.is_notable else []
    return notes


def written_scores(out: Folder, class_names: tuple[str, ...]) -> PatientScores:
    """Read the scores that `predict` has written to `out`, without the labels."""
    columns = [f"score_{name}" for name in class_names]
    table = pq.read_table(io.BytesIO(out.read(SCORES)), columns=["patient", *columns])
    probabilities = np.column_stack([table[name].to_numpy() for name in columns])
    return PatientScores(probabilities, np.array(table["patient"].to_pylist(), np.str_))
