"""Learning curves as training rows, and the random forest that is fitted to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.report_interval import report_interval, trial_epochs
from raysearch.config.space import Space
from raysearch.config.space_geometry import ABSENT, feature_row, feature_rows_at
from raysearch.search.journal.history import Trial

NUM_TREES, NUM_COST_TREES = 20, 10
# Exploration weight of a new trial's upper confidence bound. It is small, because the largest of
# many bounds is already an optimistic one.
NEW_TRIAL_EXPLORATION_WEIGHT = 1.0
# Features after those of the hyperparameters: the fraction to forecast, and four of the curve.
NUM_CURVE_FEATURES = 5
# The forest is fitted to no more rows than this.
MAX_ROWS = 4000
# With several folds, a leaf has at least `MIN_LEAF_ROWS` rows, but not more than one
# `MAX_LEAF_PARTS`th of all. The curve of a first fold determines a trial's end less than the only
# curve does: a forest that memorizes it would start near-copies of trials with lucky first folds.
MIN_LEAF_ROWS, MAX_LEAF_PARTS = 20, 10

Floats = NDArray[np.float64]
# A tree of scikit-learn without its input checks.
Tree = Any


class Curves:
    """The training rows of the surrogate: one for each pair of rungs of a trial, in report order.

    A row holds the hyperparameters, the fraction of the fold-epochs at which the objective is
    forecast, and the curve up to an earlier rung, or that there is none.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._grace_period = space.stopping.grace_period
        self._rows: list[list[float]] = []
        self._targets: list[float] = []
        # The number of rows after each report at a rung.
        self._row_ends: list[int] = []
        self._reports: list[tuple[Trial, float]] = []
        self._hparam_rows: dict[str, list[float]] = {}
        self._tried: set[tuple[float, ...]] = set()
        self._curves: dict[str, list[tuple[float, float]]] = {}

    def __len__(self) -> int:
        return len(self._row_ends)

    @property
    def num_trials(self) -> int:
        """The number of trials that were added."""
        return len(self._hparam_rows)

    def add_trial(self, trial: Trial) -> None:
        """Add a trial that has started."""
        self._hparam_rows[trial.id] = feature_row(self._space, trial.hparams)
        self._tried.add(_rounded(self._hparam_rows[trial.id]))

    def add_report(self, trial: Trial, fraction: float, value: float) -> None:
        """Add the objective `value` of `trial` after a `fraction` of its fold-epochs."""
        curve = self._curves.setdefault(trial.id, [])
        lengths = {0, len(curve) // 2, len(curve) - 1} & set(range(len(curve) + 1))
        for num_points in sorted(lengths):
            self._rows.append(self.row(trial, fraction, num_points))
            self._targets.append(value)
        curve.append((fraction, value))
        self._row_ends.append(len(self._rows))
        self._reports.append((trial, value))

    def row(self, trial: Trial, fraction: float, num_points: int | None = None) -> list[float]:
        """The features of `trial` with `num_points` of its curve, to forecast `fraction`."""
        curve = self._curves.get(trial.id, [])[:num_points]
        return [*self._hparam_rows[trial.id], fraction, *_curve_features(curve)]

    def is_new(self, hparams: Hparams) -> bool:
        """Whether no trial has these hyperparameters."""
        return _rounded(feature_row(self._space, hparams)) not in self._tried

    def new_rows(self, points: Floats, fraction: float) -> Floats:
        """The features of new trials at `points` of the unit cube, shape (points, features)."""
        features = np.array([fraction, *_curve_features([])])
        return np.hstack(
            [feature_rows_at(self._space, points), np.tile(features, (len(points), 1))]
        )

    def training_rows(self, num_reports: int) -> tuple[Floats, Floats]:
        """The rows and objectives of the first `num_reports`, thinned out if they are too many."""
        end = self._row_ends[num_reports - 1]
        indices = np.arange(end)
        if end > MAX_ROWS:
            older = np.linspace(0, end - MAX_ROWS // 2 - 1, MAX_ROWS // 2).astype(int)
            indices = np.concatenate([older, indices[-MAX_ROWS // 2 :]])
        return (
            np.array([self._rows[index] for index in indices], np.float32),
            np.array([self._targets[index] for index in indices]),
        )

    def has_several_folds(self, num_reports: int) -> bool:
        """Whether a trial of the first `num_reports` has more than one fold."""
        return any(trial.folds > 1 for trial, _value in self._reports[:num_reports])

    def seconds_per_epoch(self, num_reports: int) -> tuple[Floats, Floats]:
        """The hyperparameters and the log seconds per epoch of the first reports' trials."""
        trials = {trial.id: trial for trial, _value in self._reports[:num_reports]}
        seconds = [
            np.mean([report.seconds for report in trial.reports[: self._grace_period]])
            / report_interval(trial.hparams, trial_epochs(self._space, trial.hparams))
            for trial in trials.values()
        ]
        rows = np.array([self._hparam_rows[name] for name in trials])
        return rows, np.log(np.maximum(seconds, 1e-3))

    def best(self, num_reports: int, sign: float) -> list[Trial]:
        """The trials of the first `num_reports`, best first by each one's last report of these."""
        values = {trial.id: (sign * value, trial) for trial, value in self._reports[:num_reports]}
        return [trial for _value, trial in sorted(values.values(), key=lambda pair: -pair[0])]


def _curve_features(curve: Sequence[tuple[float, float]]) -> list[float]:
    """Last fraction and objective, slope, and largest objective of a curve."""
    if not curve:
        return [0.0, ABSENT, 0.0, ABSENT]
    fraction, value = curve[-1]
    previous_fraction, previous_value = curve[-2] if len(curve) > 1 else (fraction, value)
    step = fraction - previous_fraction
    slope = (value - previous_value) / step if step > 0 else 0.0
    return [fraction, value, slope, max(value for _fraction, value in curve)]


def _rounded(row: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, 6) for value in row)


class Surrogate(Protocol):
    """A model that forecasts objectives and costs; the forest, or that of a simulation."""

    def upper_confidence_bounds(
        self, rows: NDArray[np.float32], exploration_weight: float
    ) -> Floats:
        """Upper confidence bounds of the final objectives, larger is better, shape (rows,)."""

    def log_costs(self, rows: NDArray[np.float32]) -> Floats:
        """The log of the seconds per fold-epoch of each row, minus their mean, shape (rows,)."""

    def normal_score(self, value: float) -> float:
        """An objective of `value` on the scale of the bounds, larger is better."""


class ForestSurrogate:
    """A random forest that forecasts objectives, and one that forecasts the cost of a fold-epoch.

    The objectives are transformed to normal scores of their ranks, so that differences among the
    good trials count as much as the distance of the bad ones.
    """

    def __init__(self, curves: Curves, num_reports: int, sign: float, seed: int) -> None:
        from scipy.stats import norm, rankdata

        rows, targets = curves.training_rows(num_reports)
        self._targets = np.sort(sign * targets)
        scores = norm.ppf((rankdata(sign * targets) - 0.5) / len(targets))
        self._scores = np.sort(scores)
        min_leaf_rows = 1
        if curves.has_several_folds(num_reports):
            min_leaf_rows = min(MIN_LEAF_ROWS, 1 + len(rows) // MAX_LEAF_PARTS)
        self._trees = _fit_trees(rows, scores, NUM_TREES, seed, min_leaf_rows)
        self._num_hparams = rows.shape[1] - NUM_CURVE_FEATURES
        # If no hyperparameter varies, every trial costs the same.
        self._cost_trees: list[Tree] = []
        hparam_rows, log_seconds = curves.seconds_per_epoch(num_reports)
        if self._num_hparams:
            self._cost_trees = _fit_trees(hparam_rows, log_seconds, NUM_COST_TREES, seed)

    def upper_confidence_bounds(
        self, rows: NDArray[np.float32], exploration_weight: float
    ) -> Floats:
        """Upper confidence bounds of the normal scores; larger is better.

        Args:
            rows: Features, shape (rows, features).
            exploration_weight: Standard deviations between the trees that are added to their mean,
                for trials that have started.

        Returns:
            Bounds, shape (rows,).
        """
        forecasts = np.array([tree.predict(rows)[:, 0] for tree in self._trees])
        # The last fraction of the curve is positive.
        has_started = rows[:, self._num_hparams + 1] > 0
        weights = np.where(has_started, exploration_weight, NEW_TRIAL_EXPLORATION_WEIGHT)
        return np.asarray(forecasts.mean(axis=0) + weights * forecasts.std(axis=0))

    def log_costs(self, rows: NDArray[np.float32]) -> Floats:
        """The log of the seconds per fold-epoch of each row, minus their mean, shape (rows,)."""
        if not self._cost_trees:
            return np.zeros(len(rows))
        hparams = np.ascontiguousarray(rows[:, : self._num_hparams])
        forecasts = np.mean([tree.predict(hparams)[:, 0] for tree in self._cost_trees], axis=0)
        return np.asarray(forecasts - forecasts.mean())

    def normal_score(self, value: float) -> float:
        """The normal score of an objective of `value`, larger is better."""
        return float(np.interp(value, self._targets, self._scores))


def _fit_trees(
    rows: Floats, targets: Floats, num_trees: int, seed: int, min_leaf_rows: int = 1
) -> list[Tree]:
    from sklearn.ensemble import ExtraTreesRegressor

    model = ExtraTreesRegressor(
        num_trees, max_features=None, min_samples_leaf=min_leaf_rows, random_state=seed
    )
    model.fit(rows.astype(np.float32), targets)
    return [estimator.tree_ for estimator in model.estimators_]
