"""Studies whose trials report made-up objectives instead of training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from raysearch.config.space_file import parse_space
from raysearch.search.journal.events import FoldReport
from raysearch.search.journal.history import Trial
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan_creation import make_plan
from raysearch.search.study.study import Study, create_study

TREE: dict[str, Any] = {
    "epochs": 4,
    "trials": 12,
    "seed": 1,
    "stopping": {"rule": "asha", "grace_period": 1, "reduction_factor": 3, "paired_alpha": 0},
    "space": {
        "folds": 2,
        "optimizer": {"choice": ["adamw", "sgd"]},
        "momentum": {"uniform": [0.5, 0.9], "when": {"optimizer": "sgd"}},
        "learning_rate": {"loguniform": [1e-4, 1e-1]},
        "width": {"int": [4, 16]},
        "batch_size": 32,
    },
}


def new_study(shards: Path, path: Path, tree: dict[str, Any] = TREE) -> Study:
    """Create the study of the space `tree` over `shards` in the folder `path`, and begin it."""
    plan, splits = make_plan(parse_space(tree, "x"), path.name, str(shards))
    study = create_study(StudyFolder(path), plan, splits)
    study.begin()
    return study


def fold_report(trial: str, epoch: int, objective: float | None, **fields: Any) -> FoldReport:
    """A report of `trial` after `epoch` fold-epochs of four epochs per fold."""
    report = FoldReport(
        trial=trial,
        fold=(epoch - 1) // 4,
        epoch=epoch,
        objective=objective,
        metrics={"auroc": objective},
        loss=1.0,
        seconds=0.5,
        host="here",
    )
    return replace(report, **fields)


def quality(trial: Trial) -> float:
    """An objective that depends mostly on the learning rate, and a little on the width."""
    rate = abs(np.log10(float(trial.hparams["learning_rate"])) + 2) / 4
    return float(0.9 - rate + int(trial.hparams["width"]) / 1000)


def report_epochs(study: Study, trial: Trial, max_epochs: int = 10**6) -> None:
    """Report `trial` to its end, or `max_epochs` fold-epochs."""
    end = min(study.total_fold_epochs(trial), trial.epoch + max_epochs)
    for epoch in range(trial.epoch + 1, end + 1):
        if not study.report(fold_report(trial.id, epoch, quality(trial) + epoch / 100)):
            return


def next_searched(study: Study) -> Trial:
    """Return the next searched trial; the benchmark before it fails."""
    trial = study.next_trial()
    assert trial is not None
    if trial.kind == "benchmark":
        study.fail(trial.id, "not of interest here")
        return next_searched(study)
    return trial


def train_next(study: Study, num_trials: int) -> None:
    """Train the next `num_trials` trials to their ends."""
    for _ in range(num_trials):
        report_epochs(study, next_searched(study))
