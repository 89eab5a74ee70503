"""Learning curves as training rows, and the random forest that is fitted to them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.report_interval import report_interval, trial_epochs
from raysearch.config.space import Space
from raysearch.config.space_geometry import (
    ABSENT,
    feature_row,
    feature_rows_at,
    values_at_point,
)
from raysearch.search.journal.history import Trial, total_fold_epochs
from raysearch.search.transfer.study_memory import RungReport, StudyMemory

NUM_TREES, NUM_COST_TREES = 20, 10
MEMORY_HALF_LIFE = 8
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
    forecast, and the curve up to an earlier rung, or that there is none. With a memory, the first
    feature is the score of the hyperparameters by earlier studies.

    Args:
        space: The search space.
        memory: The models of earlier studies; None without any.
    """

    def __init__(self, space: Space, memory: StudyMemory | None = None) -> None:
        self._space, self._memory = space, memory
        self._grace_period = space.stopping.grace_period
        self._rows: list[list[float]] = []
        self._targets: list[float] = []
        # The number of rows after each report at a rung.
        self._row_ends: list[int] = []
        self._reports: list[tuple[Trial, float]] = []
        self._fractions: list[float] = []
        # The log of the seconds per epoch of each report's trial, as far as they were known then: a
        # resumed search has the reports that followed, too, and must decide the same.
        self._log_costs: list[float] = []
        # The trial of each row.
        self._row_trials: list[Trial] = []
        self._hparam_rows: dict[str, list[float]] = {}
        self._tried: set[tuple[float, ...]] = set()
        self._curves: dict[str, list[tuple[float, float]]] = {}

    def __len__(self) -> int:
        return len(self._row_ends)

    @property
    def has_memory(self) -> bool:
        """Whether the first feature is the score by earlier studies."""
        return self._memory is not None

    @property
    def num_trials(self) -> int:
        """The number of trials that were added."""
        return len(self._hparam_rows)

    def add_trial(self, trial: Trial) -> None:
        """Add a trial that has started."""
        self._hparam_rows[trial.id] = feature_row(self._space, trial.hparams)
        self._tried.add(_rounded(self._hparam_rows[trial.id]))

    def add_report(self, trial: Trial, epoch: int, value: float) -> None:
        """Add the objective `value` of `trial` after `epoch` fold-epochs."""
        fraction = epoch / total_fold_epochs(self._space, trial)
        curve = self._curves.setdefault(trial.id, [])
        lengths = {0, len(curve) // 2, len(curve) - 1} & set(range(len(curve) + 1))
        for num_points in sorted(lengths):
            self._rows.append(self._own_features(trial, fraction, num_points))
            self._targets.append(value)
            self._row_trials.append(trial)
        curve.append((fraction, value))
        self._row_ends.append(len(self._rows))
        self._reports.append((trial, value))
        self._log_costs.append(self._log_cost(trial, epoch))
        self._fractions.append(fraction)

    def weigh_memory(self, num_reports: int, sign: float) -> None:
        """Compute the weights of earlier studies by the first `num_reports`."""
        if self._memory is not None:
            reports = zip(self._reports[:num_reports], self._fractions, strict=False)
            self._memory.weigh(
                [
                    RungReport(trial.id, trial.hparams, fraction, sign * value)
                    for (trial, value), fraction in reports
                ]
            )

    def rows(self, trials: Sequence[Trial], fraction: float) -> Floats:
        """The features of trials with their curves, to forecast `fraction`, (trials, features)."""
        rows = np.array([self._own_features(trial, fraction) for trial in trials])
        return np.hstack([self._memory_feature(trials), rows])

    def _own_features(
        self, trial: Trial, fraction: float, num_points: int | None = None
    ) -> list[float]:
        """The features of `trial` with `num_points` of its curve, without those of the memory."""
        curve = self._curves.get(trial.id, [])[:num_points]
        return [*self._hparam_rows[trial.id], fraction, *_curve_features(curve)]

    def _memory_feature(self, trials: Sequence[Trial]) -> Floats:
        """The score of each trial by earlier studies, (trials, 1); (trials, 0) without any."""
        if self._memory is None:
            return np.empty((len(trials), 0))
        distinct = {trial.id: trial.hparams for trial in trials}
        scores = self._memory.trial_scores(list(distinct.values()))
        score_of = dict(zip(distinct, scores, strict=True))
        return np.array([[score_of[trial.id]] for trial in trials])

    def is_new(self, hparams: Hparams) -> bool:
        """Whether no trial has these hyperparameters."""
        return _rounded(feature_row(self._space, hparams)) not in self._tried

    def new_rows(self, points: Floats, fraction: float) -> Floats:
        """The features of new trials at `points` of the unit cube, shape (points, features)."""
        features = np.tile([fraction, *_curve_features([])], (len(points), 1))
        rows = np.hstack([feature_rows_at(self._space, points), features])
        if self._memory is None:
            return rows
        scores = self._memory.scores([values_at_point(self._space, point) for point in points])
        return np.hstack([scores[:, None], rows])

    def training_rows(self, num_reports: int) -> tuple[Floats, Floats]:
        """The rows and objectives of the first `num_reports`, thinned out if they are too many."""
        end = self._row_ends[num_reports - 1]
        indices = np.arange(end)
        if end > MAX_ROWS:
            older = np.linspace(0, end - MAX_ROWS // 2 - 1, MAX_ROWS // 2).astype(int)
            indices = np.concatenate([older, indices[-MAX_ROWS // 2 :]])
        rows = np.array([self._rows[index] for index in indices])
        memory = self._memory_feature([self._row_trials[index] for index in indices])
        return (
            np.hstack([memory, rows]).astype(np.float32),
            np.array([self._targets[index] for index in indices]),
        )

    def has_several_folds(self, num_reports: int) -> bool:
        """Whether a trial of the first `num_reports` has more than one fold."""
        return any(trial.folds > 1 for trial, _value in self._reports[:num_reports])

    def num_reported_trials(self, num_reports: int) -> int:
        """The number of trials that made the first `num_reports`."""
        return len({trial.id for trial, _value in self._reports[:num_reports]})

    def seconds_per_epoch(self, num_reports: int) -> tuple[Floats, Floats]:
        """The hyperparameters and the log seconds per epoch of the first reports' trials."""
        trials = {trial.id: trial for trial, _value in self._reports[:num_reports]}
        rows = np.array([self._hparam_rows[name] for name in trials])
        rows = np.hstack([self._memory_feature(list(trials.values())), rows])
        return rows, np.array(list(self._costs_of_trials(num_reports).values()))

    def _costs_of_trials(self, num_reports: int) -> dict[str, float]:
        """The log of the seconds per epoch of the first reports' trials, by their names."""
        costs = zip(self._reports[:num_reports], self._log_costs, strict=False)
        return {trial.id: log_cost for (trial, _value), log_cost in costs}

    def _log_cost(self, trial: Trial, epoch: int) -> float:
        """The log of the seconds per epoch of `trial`, from its first reports until `epoch`."""
        seconds = [report.seconds for report in trial.reports if report.epoch <= epoch]
        interval = report_interval(trial.hparams, trial_epochs(self._space, trial.hparams))
        mean_s = float(np.mean(seconds[: self._grace_period]))
        return math.log(max(mean_s / interval, 1e-3))

    def num_cheap(self, max_log_seconds: float) -> int:
        """The number of trials that take at most `max_log_seconds` per epoch and have reported."""
        costs = self._costs_of_trials(len(self._reports)).values()
        return sum(log_cost <= max_log_seconds for log_cost in costs)

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

    def log_seconds(self, rows: NDArray[np.float32]) -> Floats:
        """The log of the seconds per fold-epoch of each row, shape (rows,)."""

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
        # With a memory, a part of the trees does not see its feature: where they disagree with the
        # others, the bounds are higher.
        self._num_remembering = NUM_TREES
        if curves.has_memory:
            num_trials = curves.num_reported_trials(num_reports)
            part = MEMORY_HALF_LIFE / (MEMORY_HALF_LIFE + num_trials)
            self._num_remembering = max(1, round(NUM_TREES * part))
        self._trees = _fit_trees(rows, scores, self._num_remembering, seed, min_leaf_rows)
        if curves.has_memory:
            num_others = NUM_TREES - self._num_remembering
            self._trees += _fit_trees(rows[:, 1:], scores, num_others, seed, min_leaf_rows)
        self._num_hparams = rows.shape[1] - NUM_CURVE_FEATURES
        # If no hyperparameter varies, every trial costs the same.
        self._cost_trees: list[Tree] = []
        hparam_rows, log_seconds = curves.seconds_per_epoch(num_reports)
        self._mean_log_seconds = float(np.mean(log_seconds))
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
        forecasts = np.array(
            [tree.predict(rows)[:, 0] for tree in self._trees[: self._num_remembering]]
            + [
                tree.predict(np.ascontiguousarray(rows[:, 1:]))[:, 0]
                for tree in self._trees[self._num_remembering :]
            ]
        )
        # The last fraction of the curve is positive.
        has_started = rows[:, self._num_hparams + 1] > 0
        weights = np.where(has_started, exploration_weight, NEW_TRIAL_EXPLORATION_WEIGHT)
        return np.asarray(forecasts.mean(axis=0) + weights * forecasts.std(axis=0))

    def log_seconds(self, rows: NDArray[np.float32]) -> Floats:
        """The log of the seconds per fold-epoch of each row, shape (rows,)."""
        if not self._cost_trees:
            return np.full(len(rows), self._mean_log_seconds)
        hparams = np.ascontiguousarray(rows[:, : self._num_hparams])
        forecasts = [tree.predict(hparams)[:, 0] for tree in self._cost_trees]
        return np.asarray(np.mean(forecasts, axis=0))

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
