"""A model of learning curves that picks what trains next: a forest over all that was reported.

It learns, from every pair of rungs of every trial, what the knobs and the curve up to one rung say
of the objective at a later one. A free slot is given to whichever has the best optimistic forecast
of its end: a trial that waits at a rung, or one not begun yet. The idea is that of freeze-thaw
optimisation (Swersky, Snoek, Adams, arXiv:1406.3896), with a forest for its Gaussian process, as
in SMAC (Hutter, Hoos, Leyton-Brown, LION 2011).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor

from raysearch.search.history import History, Trial
from raysearch.search.rules import Begin, Never, Pick, Verdict
from raysearch.search.rungs import even_levels
from raysearch.search.space import RANGES, Space
from raysearch.search.units import ABSENT, chosen_at, point_of, row_of, rows_at
from raysearch.training.loop import key

TREES = 20
# So many trials begin before the model is asked.
STARTUP = 8
RANDOM, NEAR = 300, 100
# How far from a good trial its neighbours lie, how many of its knobs change, and of how many.
STEP, CHANGED, PARENTS = 0.15, 0.4, 5
OPTIMISM = 1.0
# A model learns from no more rows than this, and forecasts no more waiting trials.
MOST_ROWS, MOST_WAITING = 4000, 300
# A rung in so many parts of a fold's epochs.
PARTS = 17

# The model learns again when the reports have grown by this share.
NEWS = 1 / 10

Floats = NDArray[np.float64]
Tree = Any  # scikit-learn's own, without the checks around it


def last_fit(reports: int) -> int:
    """After how many of so many reports the model last learned."""
    every = max(1, int(reports * NEWS))
    return reports - reports % every


class Curves:
    """What a forest learns from: a row for each pair of rungs of a trial, in the order of reports.

    A row holds the knobs, the share of the fold-epochs at which the objective is asked for, and
    what the curve was up to an earlier rung, or that there was none.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._rows: list[list[float]] = []
        self._targets: list[float] = []
        # After each report at a rung, how many rows there are.
        self._ends: list[int] = []
        self._reports: list[tuple[Trial, float]] = []
        self._knobs: dict[str, list[float]] = {}
        self._curves: dict[str, list[tuple[float, float]]] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def take(self, trial: Trial, share: float, value: float) -> None:
        """Take in the objective `value` of `trial` after a `share` of its fold-epochs."""
        curve = self._curves.setdefault(trial.id, [])
        for upto in sorted({0, len(curve) // 2, len(curve) - 1} & set(range(len(curve) + 1))):
            self._rows.append(self.row(trial, share, upto))
            self._targets.append(value)
        curve.append((share, value))
        self._ends.append(len(self._rows))
        self._reports.append((trial, value))

    def row(self, trial: Trial, share: float, upto: int | None = None) -> list[float]:
        """`trial` as the model reads it, with its first `upto` rungs, asked at `share`."""
        if trial.id not in self._knobs:
            self._knobs[trial.id] = row_of(self._space, trial.knobs)
        curve = self._curves.get(trial.id, [])[:upto]
        return [*self._knobs[trial.id], share, *self._seen(curve)]

    def new_rows(self, points: Floats, share: float) -> Floats:
        """Trials at `points` (N, knobs) that have not begun, as the model reads them."""
        rest = np.array([share, *self._seen([])])
        return np.hstack([rows_at(self._space, points), np.tile(rest, (len(points), 1))])

    def learned(self, reports: int) -> tuple[Floats, Floats]:
        """The rows and objectives of the first `reports`, thinned out where they are too many."""
        end = self._ends[reports - 1]
        kept = np.arange(end)
        if end > MOST_ROWS:
            old = np.linspace(0, end - MOST_ROWS // 2 - 1, MOST_ROWS // 2).astype(int)
            kept = np.concatenate([old, kept[-MOST_ROWS // 2 :]])
        return (
            np.array([self._rows[place] for place in kept], np.float32),
            np.array([self._targets[place] for place in kept]),
        )

    def best(self, reports: int, sign: float) -> list[Trial]:
        """The trials of the first `reports`, the best first, by the last of these of each."""
        last = {trial.id: (sign * value, trial) for trial, value in self._reports[:reports]}
        return [one for _value, one in sorted(last.values(), key=lambda pair: -pair[0])]

    @staticmethod
    def _seen(curve: Sequence[tuple[float, float]]) -> list[float]:
        if not curve:
            return [0.0, ABSENT, 0.0, ABSENT]
        share, value = curve[-1]
        before, earlier = curve[-2] if len(curve) > 1 else (share, value)
        slope = (value - earlier) / (share - before) if share > before else 0.0
        return [share, value, slope, max(one for _share, one in curve)]


class ByForest(Never):
    """Gives each free slot to the trial, waiting or new, whose end has the best forecast."""

    def __init__(self, space: Space) -> None:
        super().__init__(space)
        self._curves = Curves(space)
        # What was worked out last, to be used again as long as it would come out the same.
        self._known: tuple[object, Pick] = ((), None)
        self._fitted: tuple[int, list[Tree]] = (0, [])
        self._drawn: tuple[object, tuple[Floats, Floats]] = ((), (np.empty(0), np.empty(0)))

    def levels(self, folds: int) -> tuple[int, ...]:
        """Rungs close to each other in the first fold, then the ends of the folds."""
        epochs = self._space.epochs
        step = max(1, round(epochs / PARTS))
        return even_levels(epochs, folds, self._space.stopping.grace, step)

    def verdict(self, history: History, trial: Trial, may_begin: bool) -> Verdict:
        """It goes on where it would be picked, and waits otherwise."""
        picked = self._choose(history, [*history.paused(), trial], may_begin)
        return "on" if picked is trial else "pause"

    def pick(self, history: History, may_begin: bool) -> Pick:
        """The best forecast of the waiting trials and, if one may begin, of many new ones.

        None where no waiting trial is forecast to become better than the best that finished.
        """
        return self._choose(history, history.paused(), may_begin)

    def _choose(self, history: History, waiting: list[Trial], may_begin: bool) -> Pick:
        self._take_in(history)
        number = len(history.searched())
        if may_begin and (number < STARTUP or not len(self._curves)):
            return Begin()
        if not len(self._curves):
            return None
        key_now = (len(self._curves), number, may_begin, tuple(one.id for one in waiting))
        if self._known[0] != key_now:
            self._known = (key_now, self._best_forecast(history, waiting, may_begin))
        return self._known[1]

    def _best_forecast(self, history: History, waiting: list[Trial], may_begin: bool) -> Pick:
        space, sign = self._space, self._sign
        waiting = sorted(waiting, key=lambda one: -sign * (one.objective or 0.0))[:MOST_WAITING]
        points, new_rows = self._candidates(history)
        rows = [np.array([self._curves.row(one, 1.0) for one in waiting])] if waiting else []
        rows += [new_rows] if may_begin else []
        if not rows:
            return None
        asked = np.concatenate(rows).astype(np.float32)
        forecasts = np.array([tree.predict(asked)[:, 0] for tree in self._trees()])
        scores = forecasts.mean(axis=0) + OPTIMISM * forecasts.std(axis=0)
        place = int(np.argmax(scores))
        if place >= len(waiting):
            return Begin(chosen_at(space, points[place - len(waiting)]))
        best = history.best(None, space.mode)
        if not may_begin and best is not None and scores[place] <= sign * best.ranked_by:
            return None
        return waiting[place]

    def _trees(self) -> list[Tree]:
        """The trees that learned what was reported, up to a share of `NEWS` ago; larger is better.

        That long ago is told by the number of reports alone, so that it does not matter who asked
        before.
        """
        reports = last_fit(len(self._curves))
        if self._fitted[0] != reports:
            learned, targets = self._curves.learned(reports)
            seed = key(self._space.seed, "forest", reports) % 2**32
            model = ExtraTreesRegressor(TREES, max_features=None, random_state=seed)
            model.fit(learned, self._sign * targets)
            self._fitted = (reports, [one.tree_ for one in model.estimators_])
        return self._fitted[1]

    def _candidates(self, history: History) -> tuple[Floats, Floats]:
        """New knobs to choose from, as points and as rows: at random, and near the best trials."""
        number, reports = len(history.searched()), last_fit(len(self._curves))
        if self._drawn[0] != (number, reports):
            seed = key(self._space.seed, "forest", "new", number, reports)
            generator = np.random.default_rng(seed)
            random = generator.random((RANDOM, len(self._space.knobs)))
            points = np.concatenate([random, self._near(generator, reports)])
            rows = self._curves.new_rows(points, 1.0)
            self._drawn = ((number, reports), (points, rows))
        return self._drawn[1]

    def _near(self, generator: np.random.Generator, reports: int) -> Floats:
        """Points near those of the best trials, as they were after so many reports."""
        best = self._curves.best(reports, self._sign)[:PARENTS]
        parents = np.array([point_of(self._space, one.knobs) for one in best])
        points = parents[np.arange(NEAR) % len(best)]
        changed = generator.random(points.shape) < CHANGED
        moved = np.clip(points + generator.normal(0, STEP, points.shape), 0, 1 - 1e-9)
        ranged = np.array([knob.kind in RANGES for knob in self._space.knobs])
        fresh = np.where(ranged, moved, generator.random(points.shape))
        return np.where(changed, fresh, points)

    def _take_in(self, history: History) -> None:
        for trial, epoch, value in history.at_rungs[len(self._curves) :]:
            self._curves.take(trial, epoch / (trial.folds * self._space.epochs), value)

    @property
    def _sign(self) -> float:
        return 1.0 if self._space.mode == "max" else -1.0
