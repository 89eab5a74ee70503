"""How well forecasts order the trials of a study, and how likely they are valid for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Differences of objectives above this quantile count as this quantile.
LARGEST_QUANTILE = 0.95
# The probability of a model before any report that it is valid, and the distribution of the
# agreement of valid ones: studies of other tasks of LCBench have .9 and more after a few reports.
PRIOR_PROBABILITY, VALID_MEAN, VALID_STD = 0.4, 0.9, 0.15
MAX_LOG_ODDS = 20.0


def agreements(objectives: Floats, forecasts: Floats) -> Floats:
    """Return how well forecasts order trials, from -1 to 1, shape (models,).

    It is Kendall's rank correlation, in which a pair of trials counts by the product of both
    differences, so that pairs that hardly differ have little weight. A pair is compared at the last
    rung that both have reached. All are NaN if no two trials can be compared.

    Args:
        objectives: The objectives at rungs, larger is better, shape (trials, rungs); NaN at rungs
            that a trial has not reached. Each trial has reached one.
        forecasts: The forecasts of models, shape (trials, models).
    """
    last = objectives.shape[1] - 1 - np.argmax(~np.isnan(objectives[:, ::-1]), axis=1)
    first, second = np.triu_indices(len(objectives), 1)
    common = np.minimum(last[first], last[second])
    differences = objectives[first, common] - objectives[second, common]
    differs = ~np.isnan(differences) & (differences != 0)
    first, second, differences = first[differs], second[differs], differences[differs]
    if not len(differences):
        return np.full(forecasts.shape[1], np.nan)
    limit = np.quantile(np.abs(differences), LARGEST_QUANTILE)
    weighted = np.clip(differences, -limit, limit)[:, None] * (forecasts[first] - forecasts[second])
    return np.asarray(weighted.sum(axis=0) / np.maximum(np.abs(weighted).sum(axis=0), 1e-12))


def validity(agreement: Floats, num_trials: int) -> Floats:
    """Return the probability that models are valid, given their agreements, shape (models,).

    The agreement of a model without any relation to the study has the mean 0, and about the
    variance of Kendall's rank correlation. Without an agreement (NaN), it is the prior probability.
    """
    if num_trials < 2:
        return np.full(agreement.shape, PRIOR_PROBABILITY)
    variance = 2 * (2 * num_trials + 5) / (9 * num_trials * (num_trials - 1))
    variance_if_valid = VALID_STD**2 + variance
    log_ratio = (
        agreement**2 / (2 * variance)
        - (agreement - VALID_MEAN) ** 2 / (2 * variance_if_valid)
        + 0.5 * np.log(variance / variance_if_valid)
    )
    log_odds = np.log(PRIOR_PROBABILITY / (1 - PRIOR_PROBABILITY)) + log_ratio
    log_odds = np.where(agreement <= 0, -MAX_LOG_ODDS, log_odds)
    log_odds = np.clip(log_odds, -MAX_LOG_ODDS, MAX_LOG_ODDS)
    probability = 1 / (1 + np.exp(-log_odds))
    return np.where(np.isnan(agreement), PRIOR_PROBABILITY, probability)
