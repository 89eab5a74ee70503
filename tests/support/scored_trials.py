"""Trials with made-up out-of-fold scores in place of a training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from raysearch.search.journal.events import FoldReport, ModelCosts
from raysearch.search.journal.history import Trial
from raysearch.search.study.fold_scores import encode_scores
from raysearch.search.study.study import Study
from raysearch.search.study.trial_data import WORKER_CACHE
from raysearch.training.fold_training import ValidationScores
from raysearch.training.training_data import TrainingData
from support.result_studies import fold_report, new_study, next_searched

TREE: dict[str, Any] = {
    "epochs": 2,
    "trials": 4,
    "seed": 1,
    "sampler": "random",
    "stopping": {"rule": "asha", "grace_period": 1, "reduction_factor": 2, "paired_alpha": 0},
    "space": {
        "folds": 2,
        "width": {"choice": [4, 8]},
        "learning_rate": {"loguniform": [0.001, 0.01]},
        "tta": {"choice": ["none", "dihedral"]},
    },
}


def record_scores(
    study: Study,
    data: TrainingData,
    report: FoldReport,
    rows: NDArray[np.int64],
    logits: NDArray[np.floating],
) -> bool:
    """Store the scores of a fold-epoch and report it; return whether the trial continues.

    Args:
        study: The study.
        data: The rows that the trial is validated on.
        report: The report of the fold-epoch.
        rows: The validation rows, shape (N,).
        logits: Their logit of the second class less that of the first, shape (N,).
    """
    both = np.column_stack([-logits / 2, logits / 2]).astype(np.float32)
    content = encode_scores(report.fold, report.epoch, ValidationScores(rows, both), data)
    sha256 = study.folder.write_scores(report.trial, report.epoch, content)
    return study.report(replace(report, scores=sha256))


def record_noisy_trial(
    study: Study, trial: Trial, shards: Path, noise: float, **fields: Any
) -> None:
    """Report `trial` to its end, with scores that are noisy by `noise`.

    The noise of a patch is the same for all trials, except for a small part.

    Args:
        study: A study with two folds of two epochs.
        trial: The trial.
        shards: The study's shards.
        noise: The standard deviation of the noise, for logits of 1 and -1.
        fields: Fields of each report.
    """
    data = WORKER_CACHE.training_data(study.folder.address, str(shards), "cpu", 2, 1.0)
    labels = data.labels.numpy()
    shared_noise = np.random.default_rng(0).normal(0, 1, len(labels))
    trial_noise = np.random.default_rng(int(trial.id[1:])).normal(0, 0.02, len(labels))
    for epoch in range(1, 5):
        fold = (epoch - 1) // 2
        rows = data.folds[fold][1]
        margin = (2.0 * labels[rows] - 1) + noise * shared_noise[rows] + trial_noise[rows]
        objective = float(roc_auc_score(labels[rows], margin))
        report = fold_report(trial.id, epoch, objective, fold=fold, **fields)
        if not record_scores(study, data, report, rows, 4 * margin):
            return


def costs(parameters: int, inference_ms: float) -> dict[str, Any]:
    """Return the fields of a report that has costs."""
    model_costs = ModelCosts(effective_batch_size=32, parameters=parameters, flops=1)
    return {"costs": model_costs, "inference_ms": inference_ms}


def four_trials_study(shards: Path, place: Path) -> Study:
    """Create a study of four finished trials without test-time augmentation.

    The first two have equal objectives, the second is faster; the third is worse, and the last is
    the worst and the fastest.
    """
    study = new_study(shards, place, {**TREE, "stopping": {"rule": "none"}})
    for noise, parameters, inference_ms in (
        (0.6, 9, 5.0),
        (0.6, 5, 2.0),
        (1.2, 5, 2.1),
        (2.0, 1, 1.0),
    ):
        trial = next_searched(study)
        trial.hparams = {**trial.hparams, "tta": "none"}
        record_noisy_trial(study, trial, shards, noise, **costs(parameters, inference_ms))
    return study
