"""Synthetic learning curves, on which a search is simulated, and their posterior distribution."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raysearch.config.report_interval import report_interval, trial_epochs
from raysearch.search.journal.events import FoldReport
from raysearch.search.journal.history import Trial
from raysearch.search.scheduling.learning_curves import NUM_CURVE_FEATURES, Curves, Floats
from raysearch.search.scheduling.policy import SearchPolicy

# Standard deviation of the noise of an epoch; that of the final objectives is 1.
NOISE = 0.3
# A synthetic curve rises to its final objective as 1 - exp(-RISE * fraction of the fold's epochs).
RISE = 3.0
# With these, simulations with `CurvePosterior` cost as many fold-epochs as those with the forest,
# within a factor of 1.2 in the geometric mean over spaces; the forest, which has to learn that the
# hyperparameters are irrelevant, trusts the curves less than their posterior distribution does.
STARTED_WEIGHT_FACTOR, NEW_TRIAL_WEIGHT = 3.0, 0.5


class CurvePosterior:
    """Forecasts the final objective of a synthetic curve by its posterior distribution.

    The prior has the standard deviation 1, and the expected final objective of the architecture.

    The cost of a fold-epoch is that of its architecture.

    An objective after a fraction f of a fold's
    epochs is normal with mean (1 - exp(-RISE f)) times the final objective and deviation NOISE.
    """

    def __init__(
        self,
        _curves: Curves,
        _num_reports: int,
        _sign: float,
        _seed: int,
        *,
        num_folds: int,
        log_seconds: Floats,
        expected: Floats,
        started_weight_factor: float,
        first_column: int,
    ) -> None:
        self._num_folds = num_folds
        self._log_seconds, self._expected = log_seconds, expected
        self._started_weight_factor = started_weight_factor
        self._columns = slice(first_column, first_column + len(log_seconds))

    def upper_confidence_bounds(
        self, rows: NDArray[np.float32], exploration_weight: float
    ) -> Floats:
        """Posterior mean and weighted posterior standard deviation of each row, shape (rows,)."""
        last_fraction = rows.shape[1] - NUM_CURVE_FEATURES + 1
        fractions, objectives = rows[:, last_fraction], rows[:, last_fraction + 1]
        has_started = fractions > 0
        # The rungs after the first fold are at the ends of folds.
        parts = np.where(has_started, risen(np.minimum(1, fractions * self._num_folds)), 0.0)
        variances = NOISE**2 / (parts**2 + NOISE**2)
        expected = rows[:, self._columns] @ self._expected
        excess = np.where(has_started, objectives - parts * expected, 0.0)
        means = expected + excess * parts / (parts**2 + NOISE**2)
        weights = np.where(
            has_started, exploration_weight * self._started_weight_factor, NEW_TRIAL_WEIGHT
        )
        return np.asarray(means + weights * np.sqrt(variances))

    def log_seconds(self, rows: NDArray[np.float32]) -> Floats:
        """The log seconds of a fold-epoch of each row's architecture, shape (rows,)."""
        return np.asarray(rows[:, self._columns] @ self._log_seconds, np.float64)

    def normal_score(self, value: float) -> float:
        """The objective itself, because its distribution is the standard normal."""
        return value


def risen(fraction: Floats | float) -> Floats:
    """The part of its final objective that a curve has after a `fraction` of the fold's epochs."""
    return np.asarray(1 - np.exp(-RISE * np.asarray(fraction)))


def fold_fraction(epoch: int, epochs: int) -> float:
    """The fraction of a fold's `epochs` that is done after `epoch` fold-epochs."""
    return ((epoch - 1) % epochs + 1) / epochs


def synthetic_report(
    policy: SearchPolicy, trial: Trial, final_objective: float, rng: np.random.Generator
) -> FoldReport:
    """The next report of a trial whose curve rises to `final_objective`."""
    epochs = trial_epochs(policy.space, trial.hparams)
    epoch = trial.epoch + report_interval(trial.hparams, epochs)
    part = float(risen(fold_fraction(epoch, epochs)))
    value = final_objective * part + float(rng.normal(0, NOISE))
    return FoldReport(
        trial=trial.id,
        fold=(epoch - 1) // epochs,
        epoch=epoch,
        objective=value,
        metrics={policy.space.metric: value},
        loss=None,
        seconds=1.0,
        rung=policy.is_rung(trial, epoch),
    )
