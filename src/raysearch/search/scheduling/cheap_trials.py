"""The costs of trials, if some of them cost a small part of the others.

A classifier of frozen features costs a few seconds, a fine-tuning many minutes. By its value per
second, no fine-tuning would start before the classifiers are exhausted. But many cheap trials
tell what the cheap ones can reach, and so their advantage shrinks with their number.
"""

from __future__ import annotations

import math

import numpy as np

from raysearch.search.scheduling.learning_curves import Floats

# A trial is cheap if it costs less than a tenth of each trial that is not.
MIN_COST_RATIO = 10.0
# The advantage of cheap trials over the others shrinks after so many of them.
NUM_CHEAP_TRIALS = 40


def cheap_limit(log_seconds: Floats) -> float | None:
    """The largest log cost of a cheap trial; None if the costs are similar.

    Args:
        log_seconds: The log of the trials' seconds per fold-epoch, shape (trials,).
    """
    costs = np.sort(log_seconds)
    if len(costs) < 2:
        return None
    gaps = np.diff(costs)
    widest = int(np.argmax(gaps))
    if gaps[widest] < math.log(MIN_COST_RATIO):
        return None
    return float(costs[widest] + costs[widest + 1]) / 2


def relative_costs(log_seconds: Floats, limit: float | None, num_cheap: int) -> Floats:
    """The log costs, relative to their mean.

    Args:
        log_seconds: The log of the trials' seconds per fold-epoch, shape (trials,).
        limit: The largest log cost of a cheap trial; None if the costs are similar.
        num_cheap: The number of cheap trials so far.

    Returns:
        Relative costs, shape (trials,). The difference between the means of the cheap trials and of
        the others is multiplied by `40 / num_cheap`, if that is less than 1.
    """
    mean = log_seconds.mean()
    if limit is None:
        return np.asarray(log_seconds - mean)
    is_cheap = log_seconds <= limit
    means = np.where(is_cheap, log_seconds[is_cheap].mean(), log_seconds[~is_cheap].mean())
    weight = min(1.0, NUM_CHEAP_TRIALS / max(1, num_cheap))
    return np.asarray(log_seconds - means + weight * (means - mean))
