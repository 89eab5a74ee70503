"""The out-of-fold scores of a trial, pooled over the folds, and what they say by patient.

Also with each patch seen in its context: among those near it on its slide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.data.patches import Rows, load_rows
from raysearch.metrics.bootstrap import Interval, auroc_interval
from raysearch.metrics.evaluation import Scored
from raysearch.metrics.neighbor_smoothing import REACHES, Context, Places, around, fit_context
from raysearch.search.study.fold_scores import OutOfFold
from raysearch.search.study.plan import Plan


@dataclass(frozen=True)
class InContext:
    """The AUROC with each patch in its context, and the context, fitted on all folds."""

    pooled: Interval
    context: Context


def pooled_auroc(found: OutOfFold) -> Interval | None:
    """The AUROC over all development patches, and its 95 % interval by patient.

    Each patch has the score of the fold's model that did not learn from its patient.
    None where there are more than two classes.
    """
    return _auroc(found, found.probabilities) if found.probabilities.shape[1] == 2 else None


def auroc_in_context(found: OutOfFold, plan: Plan) -> InContext | None:
    """The AUROC as `pooled_auroc` has it, with what the patches near each one say.

    How much they count is fitted on the other folds. None where `pooled_auroc` is, where there is
    one fold, or where it is not known of each patch where it lies.
    """
    if found.probabilities.shape[1] != 2 or len(np.unique(found.folds)) < 2:
        return None
    places = places_of(load_rows(plan.data, plan.view), found)
    if places is None:
        return None
    scores, context = in_context(found, places)
    return InContext(_auroc(found, scores), context)


def _auroc(found: OutOfFold, scores: NDArray[np.float64]) -> Interval:
    return auroc_interval(found.labels, scores[:, 1], found.patients)


def places_of(rows: Rows, found: OutOfFold) -> Places | None:
    """Where the patches of `found` lie; None unless it is known of all, and some are together.

    Patches of one slide that were judged by two nets are not held together.
    """
    owners = _owners(rows)[found.rows]
    kept = np.char.add(np.char.add(found.folds.astype(np.str_), "/"), owners)
    return _places(rows.xs[found.rows], rows.ys[found.rows], kept, rows.shape[1])


def auroc_by_context(context: Context, rows: Rows, scored: Scored) -> Interval | None:
    """The AUROC of `rows`, `scored` by one model, with what those near each say by `context`.

    None where it is not known of each row where it lies.
    """
    places = _places(rows.xs, rows.ys, _owners(rows), rows.shape[1])
    if places is None:
        return None
    given = context(scored.probabilities, places)
    return auroc_interval(scored.labels, given[:, 1], scored.patients)


def _owners(rows: Rows) -> NDArray[np.str_]:
    """What the patches of a slide have in common, (N,)."""
    return np.where(rows.slides == "", rows.patients, rows.slides)


def _places(
    xs: NDArray[np.float64], ys: NDArray[np.float64], owners: NDArray[np.str_], side: int
) -> Places | None:
    if np.isnan(xs).any() or np.isnan(ys).any() or len(np.unique(owners)) == len(owners):
        return None
    return Places(owners, xs / side, ys / side)


def in_context(found: OutOfFold, places: Places) -> tuple[NDArray[np.float64], Context]:
    """The probabilities (N, C) of `found` with what the patches near each one say, and a context.

    How much they count in a fold is fitted on the others; the context is fitted on all.
    """
    by_reach = {reach: around(found.probabilities, places, reach) for reach in REACHES}

    def fitted(rows: NDArray[np.bool_]) -> Context:
        near = {reach: one[rows] for reach, one in by_reach.items()}
        return fit_context(found.labels[rows], found.probabilities[rows], near)

    scores = np.empty_like(found.probabilities)
    for fold in np.unique(found.folds):
        here = found.folds == fold
        context = fitted(~here)
        scores[here] = context.of(found.probabilities[here], by_reach[context.reach][here])
    return scores, fitted(np.ones(len(found.folds), np.bool_))
