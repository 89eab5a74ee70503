"""Statistics of selecting the best of many trials: ties with the best, and its corrected estimate.

The best trial of a search looks better than it is, because the maximum of noisy values is biased.
All trials share the same bootstrap replicates of patients, so that their differences are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.metrics.bootstrap import Floats, Ints, percentile_interval
from raysearch.metrics.interval import UNDEFINED, Interval
from raysearch.metrics.objective import objective_sign

# A trial that is worse by less than this is tied with the best.
MARGIN = 0.005
LEVEL = 0.95
# A quantile is estimated from replicates beyond it; this many at least.
MIN_REPLICATES_IN_TAIL = 2
MIN_REPLICATES = 2000


@dataclass(frozen=True)
class PairedComparison:
    """A trial compared with the best trial.

    Attributes:
        difference: Objective of the trial minus that of the best, positive if the trial is better.
            The interval has the level that Holm's method requires of this trial.
        tied: Whether the trial is shown not to be worse than the best by the margin.
    """

    difference: Interval
    tied: bool


def num_replicates_for(num_trials: int, level: float = LEVEL) -> int:
    """Return how many replicates a comparison of trials with the best one needs.

    The smallest quantile of Holm's method must have some replicates beyond it.
    """
    smallest_tail = (1 - level) / 2
    required = np.ceil(MIN_REPLICATES_IN_TAIL * max(1, num_trials - 1) / smallest_tail)
    return max(MIN_REPLICATES, int(required))


def compare_with_best(
    estimates: Floats,
    replicates: Floats,
    mode: str,
    margin: float = MARGIN,
    level: float = LEVEL,
) -> list[PairedComparison]:
    """Compare each trial with the best, by paired bootstrap differences and Holm's method.

    A trial is tied if the lower bound of its difference from the best lies above -`margin`, a test
    of non-inferiority; the family of tests is corrected by Holm's step-down method (Holm, 1979). If
    no difference can be shown, that alone does not make a tie.

    Args:
        estimates: Objective of each trial, shape (T,).
        replicates: Objective of each trial in each bootstrap replicate, shape (T, R).
        mode: "max" if a larger objective is better, else "min".
        margin: The margin of non-inferiority.
        level: The confidence level of the family.

    Returns:
        The comparison of each trial, in the order of `estimates`.
    """
    sign = objective_sign(mode)
    best = int(np.argmax(sign * estimates))
    contenders = [trial for trial in range(len(estimates)) if trial != best]
    differences = sign * (replicates - replicates[best])
    p_values = {trial: _inferiority_p_value(differences[trial], -margin) for trial in contenders}
    comparisons = [PairedComparison(Interval(0.0, 0.0, 0.0), tied=True)] * len(estimates)
    tied, family_tail = True, (1 - level) / 2
    tail = family_tail
    for rank, trial in enumerate(sorted(contenders, key=p_values.__getitem__)):
        if tied:  # Trials after the first that is not tied keep its significance level.
            tail = family_tail / (len(contenders) - rank)
            tied = p_values[trial] <= tail
        difference = percentile_interval(
            float(sign * (estimates[trial] - estimates[best])), differences[trial], 1 - 2 * tail
        )
        comparisons[trial] = PairedComparison(difference, tied)
    return comparisons


def _inferiority_p_value(differences: Floats, bound: float) -> float:
    """Return the fraction of bootstrap differences of at most `bound`; 1 if none is defined.

    One is added to the numerator and the denominator, as a Monte Carlo p-value requires.
    """
    defined = differences[np.isfinite(differences)]
    return float(((defined <= bound).sum() + 1) / (len(defined) + 1))


@dataclass(frozen=True)
class RungReplicates:
    """A rung of early stopping, in each bootstrap replicate.

    Attributes:
        trials: Indices of the M trials that reached the rung, shape (M,).
        objectives: Their objectives at the rung in each replicate, shape (M, R); NaN if undefined.
        num_promoted: How many of them continued.
    """

    trials: Ints
    objectives: Floats
    num_promoted: int


def bias_corrected_estimate(
    replicates: Floats, out_of_bag: Floats, mode: str, rungs: Sequence[RungReplicates] = ()
) -> Interval:
    """Estimate the selected trial's objective, corrected for the bias of selection (BBC-CV).

    In each replicate, as many trials as in the study continue from each rung, those that are best
    there in the replicate. The best at the end is selected, and its objective on the patients that
    the replicate left out is recorded. The mean over replicates is the estimate. Source: bootstrap
    bias-corrected cross-validation, Tsamardinos et al., 2018, extended by the early stopping.

    Args:
        replicates: Objective of each trial in each bootstrap replicate, shape (T, R); NaN for
            trials that did not finish.
        out_of_bag: Objective of each trial on the patients that the replicate left out, shape
            (T, R).
        mode: "max" if a larger objective is better, else "min".
        rungs: The rungs of early stopping.

    Returns:
        Mean and 95 % percentile interval over replicates; undefined if no replicate is.
    """
    sign = objective_sign(mode)
    finished = np.isfinite(replicates)
    alive = finished.copy()
    for rung in rungs:
        alive[rung.trials] &= _promoted(rung, sign)
    # If a replicate stops all trials that finished, its best one is selected nevertheless.
    alive = np.where(alive.any(axis=0), alive, finished)
    candidates = np.where(alive, sign * replicates, -np.inf)
    defined = np.flatnonzero(np.isfinite(candidates).any(axis=0))
    selected = candidates.argmax(axis=0)
    objectives = out_of_bag[selected, np.arange(replicates.shape[1])][defined]
    if not np.isfinite(objectives).any():
        return UNDEFINED
    return percentile_interval(float(np.nanmean(objectives)), objectives)


def _promoted(rung: RungReplicates, sign: float) -> NDArray[np.bool_]:
    """Return which trials of the rung continue in each replicate, shape (M, R).

    A trial whose objective is undefined in a replicate is not stopped by it.
    """
    order = np.argsort(-sign * rung.objectives, axis=0, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(len(order))[:, None], axis=0)
    promoted: NDArray[np.bool_] = (rank < rung.num_promoted) | np.isnan(rung.objectives)
    return promoted
