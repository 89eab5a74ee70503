"""Compares a study's champion with a model of color statistics, on the same folds.

    .venv/bin/python benchmarks/color_baseline.py idc --studies studies

Peer: logistic regression on the 15 color statistics of a patch, which `raysearch inspect` also
computes, fitted on the training patients of each fold. Both are evaluated by the AUROC of pooled
out-of-fold scores, and also after neighbor smoothing if the positions of all patches are known.
The interval of the difference is over 2,000 bootstrap replicates of patients. `ratio` is the
difference between both AUROCs. The study must have two classes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from raysearch.data.audit.patch_features import compute_patch_features
from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.rows import load_rows
from raysearch.data.splits.folds import fold_indices
from raysearch.metrics.bootstrap import percentile_interval
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.fold_scores import OutOfFold, out_of_fold
from raysearch.search.study.plan import Plan
from raysearch.search.study.stored_study import load_study, read_splits
from raysearch.selection.paired_bootstrap import PatientReplicates
from raysearch.selection.pooled_scores import patch_positions, smooth_out_of_fold

GOAL, NUM_REPLICATES = 0.06, 2000


def color_model_scores(folder: StudyFolder, plan: Plan, folds: int) -> OutOfFold:
    """Return the out-of-fold scores of the color model on the study's folds."""
    patches = load_patches(plan.data, view=plan.view)
    rows = np.arange(len(patches.labels))
    pixels = patches.pixels.reshape(-1, *patches.shape)
    features = compute_patch_features([(rows, pixels)], np.zeros(len(rows), bool))
    statistics = features.color_statistics
    val_rows, scores = [], []
    split = read_splits(folder, plan)[folds]
    for train_indices, val_indices in fold_indices(patches.groups(plan.view.by), split):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        model.fit(statistics[train_indices], patches.labels[train_indices])
        val_rows.append(val_indices)
        scores.append(model.predict_proba(statistics[val_indices]))
    pooled_rows = np.concatenate(val_rows)
    return OutOfFold(
        patches.labels[pooled_rows],
        np.concatenate(scores),
        patches.patients[pooled_rows],
        np.repeat(np.arange(len(val_rows)), [len(indices) for indices in val_rows]),
        pooled_rows,
    )


def compare_aurocs(first: OutOfFold, second: OutOfFold) -> tuple[float, float, str]:
    """Return both AUROCs, and their difference with its interval."""
    replicates = PatientReplicates.sample(first.patients, NUM_REPLICATES, 0)
    aurocs: list[NDArray[np.float64]] = [
        replicates.metric("auroc", scores) for scores in (first, second)
    ]
    differences = aurocs[0] - aurocs[1]
    interval = percentile_interval(float(differences[0]), differences[1:])
    return float(aurocs[0][0]), float(aurocs[1][0]), str(interval)


def smooth_scores(plan: Plan, all_scores: list[OutOfFold]) -> list[OutOfFold]:
    """Return the neighbor-smoothed scores; none if the positions of patches are unknown."""
    rows = load_rows(plan.data, plan.view)
    smoothed = []
    for scores in all_scores:
        positions = patch_positions(rows, scores)
        if positions is not None:
            probabilities, _smoothing = smooth_out_of_fold(scores, positions)
            smoothed.append(dataclasses.replace(scores, probabilities=probabilities))
    return smoothed


def main() -> None:
    """Compare the models, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study")
    parser.add_argument("--studies", default="studies")
    options = parser.parse_args()
    folder = StudyFolder(f"{options.studies}/{options.study}")
    study = load_study(folder)
    plan, champion_name = study.plan, study.history.champion
    if champion_name is None or len(plan.class_names) != 2:
        parser.error(f"{options.study} has no champion, or not two classes")
    champion = study.history.trials[champion_name]
    champion_scores = out_of_fold(folder, plan, champion)
    color_scores = color_model_scores(folder, plan, champion.folds)
    auroc, color_auroc, difference = compare_aurocs(champion_scores, color_scores)
    print(f"{champion.id} {auroc:.4f}, colors {color_auroc:.4f}, difference {difference}")
    smoothed = smooth_scores(plan, [champion_scores, color_scores])
    if smoothed:
        auroc, smoothed_color_auroc, difference = compare_aurocs(smoothed[0], smoothed[1])
        print(f"smoothed {auroc:.4f}, colors {smoothed_color_auroc:.4f}, difference {difference}")
        to_unsmoothed = compare_aurocs(smoothed[0], color_scores)[2]
        print(f"smoothed, difference to the unsmoothed colors {to_unsmoothed}")
    result = {
        "benchmark": "color_baseline",
        "value": round(auroc, 4),
        "unit": "pooled AUROC",
        "peer": round(color_auroc, 4),
        "ratio": round(auroc - color_auroc, 4),
        "goal": GOAL,
        "pass": auroc - color_auroc >= GOAL,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
