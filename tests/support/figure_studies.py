"""Studies whose search is shown in figures."""

from __future__ import annotations

from pathlib import Path

from raysearch.search.study.study import Study
from support.result_studies import TREE, fold_report, new_study, next_searched, train_next


def figure_study(shards: Path, place: Path) -> Study:
    """Create a study of 22 ended trials, one that failed, and one that runs.

    Its sampler is random, so that the figures do not depend on the default sampler.
    """
    study = new_study(shards, place, TREE | {"trials": 24, "sampler": "random", "seed": 4})
    train_next(study, 22)
    study.fail(next_searched(study).id, "nan-loss")
    study.report(fold_report(next_searched(study).id, 1, 0.99))
    return study


def study_with_two_numbers_of_folds(shards: Path, place: Path) -> Study:
    """Create a study whose trials have two or three folds."""
    tree = TREE | {"space": {**TREE["space"], "folds": {"choice": [2, 3]}}}
    study = new_study(shards, place, tree)
    train_next(study, 12)
    return study
