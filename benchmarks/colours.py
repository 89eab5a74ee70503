"""How far a study's champion is above a model that sees colours alone, on the same folds.

    uv run python benchmarks/colours.py idc --studies studies

Peer: logistic regression on the 15 colour statistics of a patch (`raysearch inspect` has the same),
fitted on the patients that each fold's net learned from. Both are judged by their pooled
out-of-fold AUROC, each patch alone and, where it is known where they lie, with those near it (the
colours, too); the interval is that of the difference, over 2,000 draws of patients. Here `ratio` is
the difference of the best of the net's to the colours alone. Two classes only.
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

from raysearch.data.audit.patch_features import measure
from raysearch.data.patches import load_patches, load_rows
from raysearch.data.splits.folds import fold_indices
from raysearch.metrics.bootstrap import Interval, patient_weights, percentiles
from raysearch.metrics.bootstrap_metrics import metric_replicates
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.fold_scores import OutOfFold, out_of_fold
from raysearch.search.study.plan import Plan
from raysearch.search.study.study import read_history, read_plan, read_splits
from raysearch.selection.pooled_scores import in_context, places_of

ABOVE, DRAWS = 0.06, 2000


def by_colours(folder: StudyFolder, plan: Plan, folds: int) -> OutOfFold:
    """The out-of-fold scores of the colour model on the study's own folds."""
    patches = load_patches(plan.data, view=plan.view)
    rows = np.arange(len(patches.labels))
    pixels = patches.pixels.reshape(-1, *patches.shape)
    colours = measure([(rows, pixels)], np.zeros(len(rows), bool)).colours
    judged, scores = [], []
    split = read_splits(folder, plan)[folds]
    for learn, judge in fold_indices(patches.groups(plan.view.by), split):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        model.fit(colours[learn], patches.labels[learn])
        judged.append(judge)
        scores.append(model.predict_proba(colours[judge]))
    order = np.concatenate(judged)
    numbers = np.repeat(np.arange(len(judged)), [len(one) for one in judged])
    owners = patches.patients[order]
    return OutOfFold(patches.labels[order], np.concatenate(scores), owners, numbers, order)


def drawn(found: OutOfFold, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The AUROC of `found` by each of `weights` (R, patients), in the order of their names."""
    owner = np.unique(found.patients, return_inverse=True)[1].astype(np.int64)
    return metric_replicates("auroc", found.labels, found.probabilities, owner, weights)


def above(net: OutOfFold, colours: OutOfFold) -> tuple[float, float, Interval]:
    """The AUROCs of both, and what the first is above the second by."""
    patients = len(np.unique(net.patients))
    weights = np.concatenate([np.ones((1, patients)), patient_weights(patients, DRAWS, 0)])
    ours, theirs = drawn(net, weights), drawn(colours, weights)
    apart = ours - theirs
    return float(ours[0]), float(theirs[0]), percentiles(float(apart[0]), apart[1:])


def in_place(plan: Plan, *found: OutOfFold) -> list[OutOfFold]:
    """Each of `found` with what the patches near each one say; none where that is not known."""
    rows = load_rows(plan.data, plan.view)
    places = [places_of(rows, one) for one in found]
    return [
        dataclasses.replace(one, probabilities=in_context(one, place)[0])
        for one, place in zip(found, places, strict=True)
        if place is not None
    ]


def main() -> None:
    """Compare, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("study")
    parser.add_argument("--studies", default="studies")
    asked = parser.parse_args()
    folder = StudyFolder(f"{asked.studies}/{asked.study}")
    plan, history = read_plan(folder), read_history(folder)
    if history.champion is None or len(plan.class_names) != 2:
        parser.error(f"{asked.study} has no champion, or not two classes")
    trial = history.trials[history.champion]
    net = out_of_fold(folder, plan, trial.id, trial.folds)
    colours = by_colours(folder, plan, trial.folds)
    ours, theirs, apart = above(net, colours)
    print(f"{trial.id} {ours:.4f}, colours {theirs:.4f}, apart {apart} over {trial.folds} folds")
    near = in_place(plan, net, colours)
    if near:
        ours, they, apart = above(*near)
        print(f"with those near {ours:.4f}, colours {they:.4f}, apart {apart}")
        print(f"with those near, to colours alone {above(near[0], colours)[2]}")
    line = {"benchmark": "colours", "value": round(ours, 4), "unit": "pooled AUROC"}
    line |= {"peer": round(theirs, 4), "ratio": round(ours - theirs, 4)}
    print(json.dumps(line | {"goal": ABOVE, "pass": ours - theirs >= ABOVE}))


if __name__ == "__main__":
    main()
