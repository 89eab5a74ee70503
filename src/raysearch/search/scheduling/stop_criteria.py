"""Criteria that stop a trial by its own curve, or by a paired comparison with the best trial."""

from __future__ import annotations

from collections.abc import Sequence

from raysearch.metrics.objective import best_value, objective_sign
from raysearch.search.journal.rungs import Mode

# The paired test needs at least so many folds.
MIN_PAIRS = 2


def cannot_catch_up(
    values: Sequence[float], best_values: Sequence[float], mode: Mode, alpha: float
) -> bool:
    """Whether a trial is worse than the best one, by a paired test over the folds of both.

    One-sided Wilcoxon signed-rank test with zeros split, as in Optuna's `WilcoxonPruner`. The
    trial is worse if the p-value is below
    `alpha` and its mean is below the mean of all folds of the best trial.

    Args:
        values: The trial's objective of each fold, in the order of the folds.
        best_values: Those of the best trial, possibly of more folds.
        mode: Whether a larger or a smaller objective is better.
        alpha: Significance level.
    """
    pairs = list(zip(values, best_values, strict=False))
    if len(pairs) < MIN_PAIRS:
        return False
    sign = objective_sign(mode)
    if sign * sum(values) / len(values) >= sign * sum(best_values) / len(best_values):
        return False
    differences = [sign * (value - best_value) for value, best_value in pairs]
    if not any(differences):
        return False
    has_ties = len({abs(difference) for difference in (0.0, *differences)}) <= len(differences)
    if not has_ties and 0.5 ** len(differences) >= alpha:
        # The exact test has no smaller p-value, and SciPy takes half a second to import.
        return False
    from scipy.stats import wilcoxon

    test = wilcoxon(differences, alternative="less", zero_method="zsplit")
    return float(test.pvalue) < alpha


def out_of_patience(values: Sequence[float], patience: int, mode: Mode) -> bool:
    """Whether the best of a fold's objectives, one per epoch, is at least `patience` epochs old.

    A `patience` of 0 means no limit.
    """
    if not patience or len(values) <= patience:
        return False
    return best_value(values[:-patience], mode) == best_value(values, mode)
