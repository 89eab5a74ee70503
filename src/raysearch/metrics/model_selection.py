"""The best of many trials is lucky: which others are as good, and what it is worth without luck.

All by draws of patients, the same for every trial, so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.metrics.bootstrap import Interval, percentiles

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# A trial that is worse by less is as good.
MARGIN = 0.005
LEVEL = 0.95
# A quantile needs some draws beyond it.
BEYOND = 2


@dataclass(frozen=True)
class PairedComparison:
    """A trial against the best: their difference, positive where it is better, and if it is tied.

    The interval is at the level that Holm's method asks of this trial.
    """

    difference: Interval
    tied: bool


def draws_for(trials: int, level: float = LEVEL) -> int:
    """How many draws `trials` against the best need: the least quantile has some beyond it."""
    return max(2000, int(np.ceil(BEYOND * max(1, trials - 1) / ((1 - level) / 2))))


def compare_with_best(
    whole: Floats, drawn: Floats, sign: float, margin: float = MARGIN, level: float = LEVEL
) -> list[PairedComparison]:
    """Each of the trials with the objectives `whole` (T,) against the best of them.

    `drawn` (T, R) are the same of R draws of patients, `sign` is 1 where more is better, else -1.
    A trial is tied where it is shown not to be worse by `margin`: the lower bound of its interval
    lies above -`margin`, by Holm's method over all trials (Holm, 1979). That a difference could not
    be shown does not make a tie.
    """
    best = int(np.argmax(sign * whole))
    others = [one for one in range(len(whole)) if one != best]
    apart = sign * (drawn - drawn[best])
    worse = {one: _fraction_at_most(apart[one], -margin) for one in others}
    found = [PairedComparison(Interval(0.0, 0.0, 0.0), tied=True)] * len(whole)
    tied, outside = True, (1 - level) / 2
    for rank, one in enumerate(sorted(others, key=worse.__getitem__)):
        if tied:  # Those after the first that is not tied are judged as strictly as it was.
            strict = outside / (len(others) - rank)
            tied = worse[one] <= strict
        difference = percentiles(
            float(sign * (whole[one] - whole[best])), apart[one], 1 - 2 * strict
        )
        found[one] = PairedComparison(difference, tied)
    return found


def _fraction_at_most(drawn: Floats, most: float) -> float:
    """The share of `drawn` that is at most `most`, 1 where nothing is known."""
    known = drawn[np.isfinite(drawn)]
    return float(((known <= most).sum() + 1) / (len(known) + 1))


@dataclass(frozen=True)
class Rung:
    """A rung where trials were compared: who came, their objectives in each draw, how many went on.

    `trials` (M,) are places among all trials, `drawn` is (M, R).
    """

    trials: Ints
    drawn: Floats
    on: int


def bias_corrected_estimate(
    drawn: Floats, left_out: Floats, sign: float, rungs: Sequence[Rung] = ()
) -> Interval:
    """What the best trial is worth on patients that did not choose it.

    `drawn` (T, R) are the objectives of all trials in R draws of patients, NaN of those that did
    not finish, and `left_out` (T, R) those on the patients that a draw left out. In each draw as
    many as did go on from each of `rungs`, those that are best there in this draw, and the best at
    the end is selected; the mean of the selected on what their draws left out is the estimate
    (bootstrap bias-corrected cross-validation: Tsamardinos et al., 2018, with the early stopping
    drawn again, too).
    """
    alive = np.isfinite(drawn)
    for rung in rungs:
        order = np.argsort(-sign * rung.drawn, axis=0, kind="stable")
        place = np.empty_like(order)
        np.put_along_axis(place, order, np.arange(len(order))[:, None], axis=0)
        # Where a draw has nobody who was judged there, nobody is stopped by it.
        alive[rung.trials] &= (place < rung.on) | np.isnan(rung.drawn)
    # Where the draw would have stopped all that finished, the best of them.
    alive = np.where(alive.any(axis=0), alive, np.isfinite(drawn))
    reached = np.where(alive, sign * drawn, -np.inf)
    columns = np.flatnonzero(np.isfinite(reached).any(axis=0))
    found = left_out[reached.argmax(axis=0), np.arange(drawn.shape[1])][columns]
    if not np.isfinite(found).any():
        return Interval(None, None, None)
    return percentiles(float(np.nanmean(found)), found)
