"""Studies fed with reports instead of trained, for what is told of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from raysearch.config.space_file import parse_space
from raysearch.search.journal.history import Trial
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import make_plan
from raysearch.search.study.study import Study, create_study

TREE: dict[str, Any] = {
    "epochs": 4,
    "trials": 12,
    "seed": 1,
    "stopping": {"rule": "asha", "grace": 1, "reduction": 3, "paired": 0},
    "space": {
        "folds": 2,
        "optimizer": {"choice": ["adamw", "sgd"]},
        "momentum": {"uniform": [0.5, 0.9], "when": {"optimizer": "sgd"}},
        "learning_rate": {"loguniform": [1e-4, 1e-1]},
        "width": {"int": [4, 16]},
        "batch_size": 32,
    },
}


def new_study(shards: Path, place: Path, tree: dict[str, Any] = TREE) -> Study:
    plan, splits = make_plan(parse_space(tree, "x"), place.name, str(shards))
    study = create_study(StudyFolder(place), plan, splits)
    study.begin()
    return study


def report(epoch: int, objective: float) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "fold": (epoch - 1) // 4,
        "objective": objective,
        "loss": 1.0,
        "metrics": {"auroc": objective},
        "seconds": 0.5,
        "host": "here",
    }


def quality(trial: Trial) -> float:
    """Mostly of the learning rate, a little of the width."""
    rate = abs(np.log10(float(trial.hparams["learning_rate"])) + 2) / 4
    return float(0.9 - rate + int(trial.hparams["width"]) / 1000)


def feed(study: Study, trial: Trial, most: int = 10**6) -> None:
    """Report `trial` to its end, or `most` fold-epochs."""
    for epoch in range(trial.epoch + 1, min(study.whole(trial), trial.epoch + most) + 1):
        if not study.report(trial.id, report(epoch, quality(trial) + epoch / 100)):
            return


def next_searched(study: Study) -> Trial:
    """The next trial that is searched; the benchmark before it fails."""
    trial = study.next_trial()
    assert trial is not None
    if trial.kind == "benchmark":
        study.fail(trial.id, "not of interest here")
        return next_searched(study)
    return trial


def run_on(study: Study, trials: int) -> None:
    """Run `trials` more to their ends."""
    for _ in range(trials):
        feed(study, next_searched(study))
