"""The AUROC of out-of-fold scores pooled over all folds, with and without neighbor smoothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.data.shards.rows import Rows, load_rows
from raysearch.metrics.bootstrap import Floats, auroc_interval
from raysearch.metrics.evaluation import ScoredRows
from raysearch.metrics.interval import Interval
from raysearch.metrics.neighbor_smoothing import (
    LENGTH_SCALES,
    NeighborSmoothing,
    PatchPositions,
    fit_neighbor_smoothing,
    neighbor_sums,
)
from raysearch.search.study.fold_scores import OutOfFold
from raysearch.search.study.plan import Plan


@dataclass(frozen=True)
class SmoothedAuroc:
    """The AUROC of neighbor-smoothed scores, and the smoothing that is fitted on all folds."""

    auroc: Interval
    smoothing: NeighborSmoothing


def pooled_auroc(scores: OutOfFold) -> Interval | None:
    """Compute the AUROC over all development patches, with its 95 % interval by patient.

    Returns:
        The interval; None for more than two classes.
    """
    return _auroc(scores, scores.probabilities) if scores.probabilities.shape[1] == 2 else None


def neighbor_smoothed_auroc(scores: OutOfFold, plan: Plan) -> SmoothedAuroc | None:
    """Compute the AUROC after neighbor smoothing, which is fitted on the other folds.

    Returns:
        The AUROC and the smoothing; None for more than two classes, for a single fold, or if the
        position of a patch is unknown.
    """
    if scores.probabilities.shape[1] != 2 or len(np.unique(scores.folds)) < 2:
        return None
    positions = patch_positions(load_rows(plan.data, plan.view), scores)
    if positions is None:
        return None
    probabilities, smoothing = smooth_out_of_fold(scores, positions)
    return SmoothedAuroc(_auroc(scores, probabilities), smoothing)


def smoothed_auroc(smoothing: NeighborSmoothing, rows: Rows, scored: ScoredRows) -> Interval | None:
    """Compute the AUROC of one model's scores after a fitted smoothing.

    Args:
        smoothing: The fitted smoothing.
        rows: The rows, with their positions.
        scored: The scores of the same rows.

    Returns:
        The interval; None if the position of a patch is unknown.
    """
    sides = rows.shape[1] * rows.downsamples
    positions = _positions(rows.xs, rows.ys, _slide_names(rows), sides)
    if positions is None:
        return None
    probabilities = smoothing(scored.probabilities, positions)
    return auroc_interval(scored.labels, probabilities[:, 1], scored.patients)


def patch_positions(rows: Rows, scores: OutOfFold) -> PatchPositions | None:
    """Return the positions of the patches of `scores`, in patch sides.

    Patches of one slide that different networks scored count as different slides.

    Returns:
        The positions; None if one is unknown, or if no two patches share a slide.
    """
    slides = _slide_names(rows)[scores.rows]
    slides_by_fold = np.char.add(np.char.add(scores.folds.astype(np.str_), "/"), slides)
    sides = rows.shape[1] * rows.downsamples[scores.rows]
    return _positions(rows.xs[scores.rows], rows.ys[scores.rows], slides_by_fold, sides)


def smooth_out_of_fold(
    scores: OutOfFold, positions: PatchPositions
) -> tuple[Floats, NeighborSmoothing]:
    """Smooth each fold's probabilities by a smoothing that is fitted on the other folds.

    Args:
        scores: The out-of-fold scores.
        positions: The positions of their patches.

    Returns:
        The smoothed probabilities, shape (N, C), and the smoothing that is fitted on all folds.
    """
    sums_by_length_scale = {
        length_scale: neighbor_sums(scores.probabilities, positions, length_scale)
        for length_scale in LENGTH_SCALES
    }

    def fit(rows: NDArray[np.bool_]) -> NeighborSmoothing:
        sums = {scale: all_sums[rows] for scale, all_sums in sums_by_length_scale.items()}
        return fit_neighbor_smoothing(scores.labels[rows], scores.probabilities[rows], sums)

    probabilities = np.empty_like(scores.probabilities)
    for fold in np.unique(scores.folds):
        in_fold = scores.folds == fold
        smoothing = fit(~in_fold)
        sums = sums_by_length_scale[smoothing.length_scale][in_fold]
        probabilities[in_fold] = smoothing.smooth(scores.probabilities[in_fold], sums)
    return probabilities, fit(np.ones(len(scores.folds), np.bool_))


def _auroc(scores: OutOfFold, probabilities: Floats) -> Interval:
    return auroc_interval(scores.labels, probabilities[:, 1], scores.patients)


def _slide_names(rows: Rows) -> NDArray[np.str_]:
    """Return the slide of each row, or its patient if the slide is unknown, shape (N,)."""
    return np.where(rows.slides == "", rows.patients, rows.slides)


def _positions(
    xs: Floats, ys: Floats, slides: NDArray[np.str_], patch_sides: Floats
) -> PatchPositions | None:
    """Convert positions from pixels to patch sides."""
    if np.isnan(xs).any() or np.isnan(ys).any() or len(np.unique(slides)) == len(slides):
        return None
    return PatchPositions(slides, xs / patch_sides, ys / patch_sides)
