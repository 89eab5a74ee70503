"""How well forecasts order the trials of a study, and how likely they are valid for it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Differences of objectives above this quantile count as this quantile.
LARGEST_QUANTILE = 0.95
# The probability of a model before any report that it is valid, and the distribution of the
# agreement of valid ones: studies of other tasks of LCBench have .9 and more after a few reports.
PRIOR_PROBABILITY, VALID_MEAN, VALID_STD = 0.4, 0.9, 0.15
MAX_LOG_ODDS = 20.0


class Agreement(NamedTuple):
    """How well models order trials.

    Attributes:
        values: From -1 to 1, shape (models,); 0 if no two trials can be compared.
        num_trials: The trials that were compared with another one.
    """

    values: Floats
    num_trials: int


def agreements(fractions: Floats, objectives: Floats, forecasts: Floats) -> Agreement:
    """Return how well forecasts order trials.

    It is Kendall's rank correlation, in which a pair of trials counts by the product of both
    differences, so that pairs that hardly differ have little weight. A pair is compared where the
    shorter learning curve ends; the longer one is interpolated linearly.

    Args:
        fractions: The fractions of the fold-epochs, in increasing order, shape (rungs,).
        objectives: The objectives of trials, larger is better, shape (trials, rungs); NaN where a
            trial has none. Each trial has one.
        forecasts: The forecasts of models, shape (trials, models).
    """
    curves = np.array([_interpolated(fractions, curve) for curve in objectives])
    last = curves.shape[1] - 1 - np.argmax(~np.isnan(curves[:, ::-1]), axis=1)
    first, second = np.triu_indices(len(curves), 1)
    common = np.minimum(last[first], last[second])
    differences = curves[first, common] - curves[second, common]
    differs = ~np.isnan(differences) & (differences != 0)
    first, second, differences = first[differs], second[differs], differences[differs]
    if not len(differences):
        return Agreement(np.zeros(forecasts.shape[1]), 0)
    limit = np.quantile(np.abs(differences), LARGEST_QUANTILE)
    weighted = np.clip(differences, -limit, limit)[:, None] * (forecasts[first] - forecasts[second])
    values = weighted.sum(axis=0) / np.maximum(np.abs(weighted).sum(axis=0), 1e-12)
    return Agreement(np.asarray(values), len(np.unique([first, second])))


def _interpolated(fractions: Floats, curve: Floats) -> Floats:
    """A curve, shape (rungs,), with a value at each rung between its first and its last one."""
    reached = np.flatnonzero(~np.isnan(curve))
    filled = np.interp(fractions, fractions[reached], curve[reached])
    filled[: reached[0]] = filled[reached[-1] + 1 :] = np.nan
    return np.asarray(filled)


def validity(agreement: Agreement) -> Floats:
    """Return the probability that models are valid, given their agreements, shape (models,).

    The agreement of a model without any relation to the study has the mean 0, and about the
    variance of Kendall's rank correlation. Without two compared trials, it is the prior one.
    """
    values, num_trials = agreement
    if not num_trials:
        return np.full(len(values), PRIOR_PROBABILITY)
    variance = 2 * (2 * num_trials + 5) / (9 * num_trials * (num_trials - 1))
    variance_if_valid = VALID_STD**2 + variance
    log_ratio = (
        values**2 / (2 * variance)
        - (values - VALID_MEAN) ** 2 / (2 * variance_if_valid)
        + 0.5 * np.log(variance / variance_if_valid)
    )
    log_odds = np.log(PRIOR_PROBABILITY / (1 - PRIOR_PROBABILITY)) + log_ratio
    log_odds = np.where(values <= 0, -MAX_LOG_ODDS, log_odds)
    log_odds = np.clip(log_odds, -MAX_LOG_ODDS, MAX_LOG_ODDS)
    return np.asarray(1 / (1 + np.exp(-log_odds)))
