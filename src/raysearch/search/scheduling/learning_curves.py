"""Learning curves as rows that a forest learns from, and what it forecasts of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata
from sklearn.ensemble import ExtraTreesRegressor

from raysearch.config.space import Space, Value
from raysearch.search.journal.history import Trial
from raysearch.search.sampling.unit_cube import ABSENT, row_of, rows_at

TREES, COST_TREES = 20, 10
# Standard deviations between the trees that a forecast of a trial not begun is better than their
# mean. That is little: the best of many such forecasts is an optimistic one by that alone.
NEW_OPTIMISM = 1.0
# The columns of a row after those of its hyperparameters: where it is asked, and four of the curve so far.
AFTER_HPARAMS = 5
# A model learns from no more rows than this.
MAX_ROWS = 4000
# How many rows a leaf has at least where trials are over several folds, and of how many parts of
# all rows one at most. The curve of a first fold tells less of a trial's end than the only one
# does: a forest that learned it by heart would begin near-copies of whatever was lucky there.
LEAF, LEAVES = 20, 10

Floats = NDArray[np.float64]
Tree = Any  # scikit-learn's own, without the checks around it


class Curves:
    """What a forest learns from: a row for each pair of rungs of a trial, in the order of reports.

    A row holds the hyperparameters, the share of the fold-epochs at which the objective is asked for, and
    what the curve was up to an earlier rung, or that there was none.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._grace = space.stopping.grace
        self._rows: list[list[float]] = []
        self._targets: list[float] = []
        # After each report at a rung, how many rows there are.
        self._ends: list[int] = []
        self._reports: list[tuple[Trial, float]] = []
        self._hparams: dict[str, list[float]] = {}
        self._tried: set[tuple[float, ...]] = set()
        self._curves: dict[str, list[tuple[float, float]]] = {}

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def begun(self) -> int:
        """How many trials are known to have begun."""
        return len(self._hparams)

    def begin(self, trial: Trial) -> None:
        """Take in that `trial` has begun."""
        self._hparams[trial.id] = row_of(self._space, trial.hparams)
        self._tried.add(_rounded(self._hparams[trial.id]))

    def take(self, trial: Trial, fraction: float, value: float) -> None:
        """Take in the objective `value` of `trial` after a `fraction` of its fold-epochs."""
        curve = self._curves.setdefault(trial.id, [])
        for upto in sorted({0, len(curve) // 2, len(curve) - 1} & set(range(len(curve) + 1))):
            self._rows.append(self.row(trial, fraction, upto))
            self._targets.append(value)
        curve.append((fraction, value))
        self._ends.append(len(self._rows))
        self._reports.append((trial, value))

    def row(self, trial: Trial, fraction: float, upto: int | None = None) -> list[float]:
        """`trial` as the model reads it, with its first `upto` rungs, asked at `fraction`."""
        curve = self._curves.get(trial.id, [])[:upto]
        return [*self._hparams[trial.id], fraction, *self._seen(curve)]

    def is_new(self, hparams: Mapping[str, Value]) -> bool:
        """Whether no trial has these hyperparameters."""
        return _rounded(row_of(self._space, hparams)) not in self._tried

    def new_rows(self, points: Floats, fraction: float) -> Floats:
        """Trials at `points` (N, hyperparameters) that have not begun, as the model reads them."""
        rest = np.array([fraction, *self._seen([])])
        return np.hstack([rows_at(self._space, points), np.tile(rest, (len(points), 1))])

    def learned(self, reports: int) -> tuple[Floats, Floats]:
        """The rows and objectives of the first `reports`, thinned out where they are too many."""
        end = self._ends[reports - 1]
        kept = np.arange(end)
        if end > MAX_ROWS:
            old = np.linspace(0, end - MAX_ROWS // 2 - 1, MAX_ROWS // 2).astype(int)
            kept = np.concatenate([old, kept[-MAX_ROWS // 2 :]])
        return (
            np.array([self._rows[place] for place in kept], np.float32),
            np.array([self._targets[place] for place in kept]),
        )

    def over_folds(self, reports: int) -> bool:
        """Whether a trial of the first `reports` has further folds."""
        return any(trial.folds > 1 for trial, _value in self._reports[:reports])

    def seconds_per_epoch(self, reports: int) -> tuple[Floats, Floats]:
        """The hyperparameters of the trials of the first `reports`, and the log of their seconds an epoch."""
        last = {trial.id: trial for trial, _value in self._reports[:reports]}
        seconds = [
            np.mean([one["seconds"] for one in trial.reports[: self._grace]])
            for trial in last.values()
        ]
        return np.array([self._hparams[one] for one in last]), np.log(np.maximum(seconds, 1e-3))

    def best(self, reports: int, sign: float) -> list[Trial]:
        """The trials of the first `reports`, the best first, by the last of these of each."""
        last = {trial.id: (sign * value, trial) for trial, value in self._reports[:reports]}
        return [one for _value, one in sorted(last.values(), key=lambda pair: -pair[0])]

    @staticmethod
    def _seen(curve: Sequence[tuple[float, float]]) -> list[float]:
        if not curve:
            return [0.0, ABSENT, 0.0, ABSENT]
        fraction, value = curve[-1]
        before, earlier = curve[-2] if len(curve) > 1 else (fraction, value)
        slope = (value - earlier) / (fraction - before) if fraction > before else 0.0
        return [fraction, value, slope, max(one for _fraction, one in curve)]


def _rounded(row: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(one, 6) for one in row)


class Model:
    """A forest that forecasts objectives, and one that forecasts what a fold-epoch costs.

    The objectives are learned by their ranks, as normal scores: what sets the good trials apart
    from each other counts then as much as how bad the bad ones are.
    """

    def __init__(self, curves: Curves, reports: int, sign: float, seed: int) -> None:
        rows, targets = curves.learned(reports)
        self._targets = np.sort(sign * targets)
        scores = norm.ppf((rankdata(sign * targets) - 0.5) / len(targets))
        self._scores = np.sort(scores)
        leaf = min(LEAF, 1 + len(rows) // LEAVES) if curves.over_folds(reports) else 1
        self._trees = _forest(rows, scores, TREES, seed, leaf)
        self._hparams = rows.shape[1] - AFTER_HPARAMS
        # Where nothing varies, every trial costs the same.
        seconds_per_epoch = curves.seconds_per_epoch(reports)
        self._cost_trees = _forest(*seconds_per_epoch, COST_TREES, seed) if self._hparams else []

    def upper_confidence_bounds(
        self, rows: NDArray[np.float32], exploration_weight: float
    ) -> Floats:
        """An optimistic forecast for each of `rows` (N, columns), larger is better: (N,).

        It is so many standard deviations between the trees better than their mean, where the trial
        has begun.
        """
        forecasts = np.array([tree.predict(rows)[:, 0] for tree in self._trees])
        begun = rows[:, self._hparams + 1] > 0  # the share that its curve is known of
        each = np.where(begun, exploration_weight, NEW_OPTIMISM)
        return np.asarray(forecasts.mean(axis=0) + each * forecasts.std(axis=0))

    def costs(self, rows: NDArray[np.float32]) -> Floats:
        """The logarithm of the seconds of a fold-epoch for each of `rows`, their mean left out."""
        if not self._cost_trees:
            return np.zeros(len(rows))
        hparams = np.ascontiguousarray(rows[:, : self._hparams])
        found = np.mean([tree.predict(hparams)[:, 0] for tree in self._cost_trees], axis=0)
        return np.asarray(found - found.mean())

    def ranked(self, value: float) -> float:
        """The score of an objective of `value`, larger is better."""
        return float(np.interp(value, self._targets, self._scores))


def _forest(rows: Floats, targets: Floats, trees: int, seed: int, leaf: int = 1) -> list[Tree]:
    model = ExtraTreesRegressor(trees, max_features=None, min_samples_leaf=leaf, random_state=seed)
    model.fit(rows.astype(np.float32), targets)
    return [one.tree_ for one in model.estimators_]
