"""Measures the error of the bias-corrected estimate of the best trial, with early stopping.

    .venv/bin/python benchmarks/selection.py

Studies of synthetic patches are trained: trials of random hyperparameters over folds by patient,
half of which are stopped by their objective on the first fold. The best has the highest pooled
AUROC of the others. The truth is the AUROC of the same networks on six times as many new patients.
The patients of a study can be easier than others, which is no selection bias. This difference is
estimated by the mean of all trials, which are all trained to their end for that purpose, and
subtracted. Peer: the apparent objective of the best trial. `ratio` is how many times smaller the
mean error of the estimate is.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from raysearch.config.hyperparameter_spec import Value
from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.sharding import write_shards
from raysearch.metrics.model_selection import RungReplicates, bias_corrected_estimate
from raysearch.models.classifier import PatchClassifier
from raysearch.search.study.fold_scores import OutOfFold
from raysearch.selection.paired_bootstrap import PatientReplicates
from raysearch.training.fold_training import FoldTrainer
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

NUM_PATIENTS, NEW_PATIENT_FACTOR, PATCHES_PER_PATIENT = 24, 6, 20
NUM_TRIALS, NUM_FOLDS, NUM_EPOCHS, NUM_REPLICATES, GOAL = 12, 3, 3, 1000, 0.005
PREDICTION_BATCH_SIZE = 1024


@dataclass(frozen=True)
class SimulatedStudy:
    """The patches of a study, the rows of its patients, and the rows of new patients."""

    data: TrainingData
    study_rows: NDArray[np.int64]
    new_rows: NDArray[np.int64]


def main() -> None:
    """Train the studies, and print both mean errors."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=int, default=100)
    num_studies = parser.parse_args().studies
    aurocs = np.array([simulate_search(seed) for seed in range(num_studies)])
    apparent_errors, corrected_errors = aurocs[:, 0] - aurocs[:, 2], aurocs[:, 1] - aurocs[:, 2]
    for name, errors in (("apparent", apparent_errors), ("corrected", corrected_errors)):
        standard_error = errors.std(ddof=1) / np.sqrt(len(errors))
        print(f"{name}: mean error {errors.mean():+.4f} (standard error {standard_error:.4f})")
    value, peer = abs(float(corrected_errors.mean())), abs(float(apparent_errors.mean()))
    result = {
        "benchmark": "selection",
        "value": round(value, 4),
        "unit": "mean error of the AUROC",
        "peer": round(peer, 4),
        "ratio": round(peer / value, 2),
        "goal": GOAL,
        "pass": value < GOAL,
    }
    print(json.dumps(result))


def simulate_search(seed: int) -> tuple[float, float, float]:
    """Return the apparent, the corrected and the true AUROC of a study's best trial."""
    study = simulate_study(seed)
    patients = study.data.patients[study.study_rows]
    replicates = PatientReplicates.sample(patients, NUM_REPLICATES, seed)
    shape = (NUM_TRIALS, NUM_REPLICATES + 1)
    early, final, out_of_bag = (np.full(shape, np.nan) for _ in range(3))
    truth = np.full(NUM_TRIALS, np.nan)
    for trial in range(NUM_TRIALS):
        config = random_config(seed, trial)
        trainers = [train_fold(config, study.data, fold) for fold in range(NUM_FOLDS)]
        scores = out_of_fold_scores(study.data, trainers)
        early[trial] = replicates.metric("auroc", out_of_fold_scores(study.data, trainers[:1]))
        final[trial] = replicates.metric("auroc", scores)
        out_of_bag[trial] = replicates.out_of_bag().metric("auroc", scores)
        truth[trial] = true_auroc(study, trainers)
    patient_difference = float(final[:, 0].mean() - truth.mean())
    stopped = np.argsort(-early[:, 0])[NUM_TRIALS // 2 :]
    final[stopped] = out_of_bag[stopped] = np.nan
    rung = RungReplicates(np.arange(NUM_TRIALS), early[:, 1:], NUM_TRIALS // 2)
    estimate = bias_corrected_estimate(final[:, 1:], out_of_bag[:, 1:], "max", [rung]).value
    assert estimate is not None
    best = int(np.nanargmax(final[:, 0]))
    apparent = float(final[best, 0]) - patient_difference
    aurocs = apparent, estimate - patient_difference, float(truth[best])
    print(" ".join(f"{auroc:.4f}" for auroc in aurocs), flush=True)
    return aurocs


def simulate_study(seed: int) -> SimulatedStudy:
    """Create the patches of a study: some patients are in its folds, the others are new."""
    num_patients = NUM_PATIENTS * (1 + NEW_PATIENT_FACTOR)
    source = f"{num_patients}:{num_patients * PATCHES_PER_PATIENT}:{seed}"
    with tempfile.TemporaryDirectory() as scratch:
        write_shards(source, Path(scratch) / "shards", "synthetic", workers=1)
        patches = load_patches(f"{scratch}/shards", cache=Path(scratch) / "cache")
        pixels = torch.from_numpy(np.array(patches.pixels))
    names = np.unique(patches.patients)
    study_patients = np.random.default_rng(seed).permutation(names)[:NUM_PATIENTS]
    validation = [
        np.flatnonzero(np.isin(patches.patients, fold_patients))
        for fold_patients in np.array_split(study_patients, NUM_FOLDS)
    ]
    folds = tuple(
        (np.concatenate([other for other in validation if other is not rows]), rows)
        for rows in validation
    )
    labels = torch.from_numpy(np.array(patches.labels))
    shape, class_names = patches.shape, patches.class_names
    data = TrainingData(pixels, labels, patches.patients, shape, class_names, folds)
    new_rows = np.flatnonzero(~np.isin(patches.patients, study_patients))
    return SimulatedStudy(data, np.concatenate(validation), new_rows)


def random_config(seed: int, trial: int) -> TrainConfig:
    """Return the configuration of a trial with random hyperparameters."""
    generator = np.random.default_rng([seed, trial])
    hparams: dict[str, Value] = {
        "architecture": "cnn",
        "width": 4,
        "convolutions": 1,
        "batch_size": int(generator.choice([16, 32, 64])),
        "learning_rate": float(10 ** generator.uniform(-3, -1.5)),
    }
    return TrainConfig(hparams, NUM_EPOCHS, "auroc", seed=1000 * seed + trial)


def train_fold(config: TrainConfig, data: TrainingData, fold: int) -> FoldTrainer:
    """Train the network of a fold over all epochs."""
    trainer = FoldTrainer(config, data, fold)
    for epoch in range(config.epochs):
        trainer.train_epoch(epoch)
    return trainer


def out_of_fold_scores(data: TrainingData, trainers: Sequence[FoldTrainer]) -> OutOfFold:
    """Return the scores of each network on the validation patients of its fold."""
    val_scores = [trainer.validate(use_tta=True) for trainer in trainers]
    logits = np.concatenate([scores.logits for scores in val_scores])
    return _pool(data, [scores.rows for scores in val_scores], softmax(logits, axis=1))


def true_auroc(study: SimulatedStudy, trainers: Sequence[FoldTrainer]) -> float:
    """Return the AUROC on new patients, of which each network scores an equal part."""
    patients = study.data.patients[study.new_rows]
    parts = np.array_split(np.unique(patients), len(trainers))
    rows_by_trainer, probabilities = [], []
    for trainer, part in zip(trainers, parts, strict=True):
        rows = study.new_rows[np.isin(patients, part)]
        classifier = PatchClassifier(trainer.model, trainer.preprocessing).eval()
        pixels = study.data.pixels[torch.from_numpy(rows)].view(-1, *study.data.shape)
        with torch.inference_mode():
            batches = [classifier(batch) for batch in torch.split(pixels, PREDICTION_BATCH_SIZE)]
        probabilities.append(torch.cat(batches).numpy())
        rows_by_trainer.append(rows)
    scores = _pool(study.data, rows_by_trainer, np.concatenate(probabilities))
    original_sample = PatientReplicates.sample(scores.patients, 1, 0).first(0)
    return float(original_sample.metric("auroc", scores)[0])


def _pool(
    data: TrainingData,
    rows_by_fold: Sequence[NDArray[np.int64]],
    probabilities: NDArray[np.float64],
) -> OutOfFold:
    rows = np.concatenate(rows_by_fold)
    folds = np.repeat(np.arange(len(rows_by_fold)), [len(part) for part in rows_by_fold])
    return OutOfFold(data.labels.numpy()[rows], probabilities, data.patients[rows], folds, rows)


if __name__ == "__main__":
    main()
