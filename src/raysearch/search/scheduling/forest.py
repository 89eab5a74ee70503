"""A model of learning curves that picks what trains next: a forest over all that was reported.

It learns, from every pair of rungs of every trial, what the hyperparameters and the curve up to one rung say
of the objective at a later one. A free slot is given to whichever has the best optimistic forecast
of its end: a trial that waits at a rung, or one not begun yet. The idea is that of freeze-thaw
optimisation (Swersky, Snoek, Adams, arXiv:1406.3896), with a forest for its Gaussian process, as
in SMAC (Hutter, Hoos, Leyton-Brown, LION 2011).
"""

from __future__ import annotations

import numpy as np

from raysearch.config.constraints import allowed
from raysearch.config.space import RANGES, Space, Value
from raysearch.search.journal.history import History, Trial
from raysearch.search.journal.rungs import even_levels
from raysearch.search.sampling.sampler import propose
from raysearch.search.sampling.unit_cube import chosen_at, point_of
from raysearch.search.scheduling.budget import fraction_spent
from raysearch.search.scheduling.exploration import ExplorationTrials
from raysearch.search.scheduling.learning_curves import Curves, Floats, Model
from raysearch.search.scheduling.stopping_rules import Begin, Decision, Never, Pick
from raysearch.training.seeds import key

# So many trials begin before the model is asked.
STARTUP = 8
RANDOM, NEAR = 300, 100
# How far from a good trial its neighbours lie, how many of its hyperparameters change, and of how many.
STEP, CHANGED, PARENTS = 0.15, 0.4, 5
# What a fold-epoch e times as dear must promise more, in standard deviations between forecasts.
# Where the budget is of fold-epochs, all are equally dear.
COST = 0.6
# By how many standard deviations a trial that waits is judged better than its forecast. It is less,
# and more new ones begin instead, where else the budget would be spent before the trials are.
OPTIMISM, FRUGAL_OPTIMISM = 1.5, 0.75
# After this share of a budget, trials that wait go before new ones: a study should not end with
# many trials that were begun and none that was compared on all folds.
SEARCHING = 0.5
# So many of the trials that wait are forecast, the best of them.
MAX_WAITING = 300
# A rung in so many parts of a fold's epochs.
PARTS = 17
# The model learns again when the reports have grown by this share.
NEWS = 1 / 10


def last_fit(reports: int) -> int:
    """After how many of so many reports the model last learned."""
    every = max(1, int(reports * NEWS))
    return reports - reports % every


class ByForest(Never):
    """Gives each free slot to the trial, waiting or new, whose end has the best forecast.

    Before them go the `ExplorationTrials`.
    """

    def __init__(self, space: Space) -> None:
        super().__init__(space)
        self._curves, self._scouts = Curves(space), ExplorationTrials(space)
        # What was worked out last, with new trials and without them, to be used again as long as
        # it would come out the same.
        self._known: dict[bool, tuple[object, Pick]] = {}
        self._fitted: tuple[int, Model] | None = None
        self._drawn: tuple[object, tuple[Floats, Floats]] = ((), (np.empty(0), np.empty(0)))

    def levels(self, folds: int) -> tuple[int, ...]:
        """Rungs close to each other in the first fold, then the ends of the folds."""
        epochs = self._space.epochs
        step = max(1, round(epochs / PARTS))
        return even_levels(epochs, folds, self._space.stopping.grace, step)

    def decision(self, history: History, trial: Trial, may_begin: bool) -> Decision:
        """It goes on where it would be picked, and waits otherwise."""
        picked = self._choose(history, [*history.paused(), trial], may_begin)
        return "on" if picked is trial else "pause"

    def pick(self, history: History, may_begin: bool) -> Pick:
        """A scout, or the best forecast of the waiting trials and, if one may begin, of new ones.

        None where no waiting trial is forecast to become better than the best that finished.
        """
        return self._choose(history, history.paused(), may_begin)

    def new(self, history: History) -> dict[str, Value] | None:
        """The hyperparameters of the new trial with the best forecast; None while too little is known."""
        self._take_in(history)
        if len(history.searched()) < STARTUP or not len(self._curves):
            return None
        picked = self._best_forecast(history, [], may_begin=True, exploration_weight=OPTIMISM)
        return dict(picked.hparams or {}) if isinstance(picked, Begin) else None

    def _choose(self, history: History, waiting: list[Trial], may_begin: bool) -> Pick:
        scout = self._scouts.next(history, waiting)
        if scout is not None:
            return scout
        spent = fraction_spent(self._space, history)
        due = history.planned(self._space.trials) * min(1.0, spent / SEARCHING)
        exploration_weight = FRUGAL_OPTIMISM if len(history.searched()) < due else OPTIMISM
        if may_begin and spent >= SEARCHING:
            picked = self._pick_of(history, waiting, False, exploration_weight)
            if picked is not None:
                return picked
        return self._pick_of(history, waiting, may_begin, exploration_weight)

    def _pick_of(
        self, history: History, waiting: list[Trial], may_begin: bool, exploration_weight: float
    ) -> Pick:
        self._take_in(history)
        number = len(history.searched())
        if may_begin and (number < STARTUP or not len(self._curves)):
            return Begin()
        if not len(self._curves):
            return None
        waits = tuple(one.id for one in waiting)
        now = (len(self._curves), number, len(history.done()), exploration_weight, waits)
        known = self._known.get(may_begin)
        if known is None or known[0] != now:
            known = (now, self._best_forecast(history, waiting, may_begin, exploration_weight))
            self._known[may_begin] = known
        return known[1]

    def _best_forecast(
        self, history: History, waiting: list[Trial], may_begin: bool, exploration_weight: float
    ) -> Pick:
        space, sign = self._space, self._sign
        waiting = sorted(waiting, key=lambda one: -sign * (one.objective or 0.0))[:MAX_WAITING]
        points, new_rows = self._candidates(history)
        rows = [np.array([self._curves.row(one, 1.0) for one in waiting])] if waiting else []
        rows += [new_rows] if may_begin else []
        if not sum(map(len, rows)):
            return None
        asked = np.concatenate(rows).astype(np.float32)
        model = self._model()
        upper_confidence_bounds = model.upper_confidence_bounds(asked, exploration_weight)
        best = history.best(None, space.mode)
        if not may_begin and best is not None:
            hopeful = upper_confidence_bounds > model.ranked(sign * best.final_objective)
            if not hopeful.any():
                return None
            upper_confidence_bounds = np.where(hopeful, upper_confidence_bounds, -np.inf)
        scores = upper_confidence_bounds
        if space.budget.fold_epochs is None:
            scores = upper_confidence_bounds - COST * model.costs(asked) * np.std(
                upper_confidence_bounds[upper_confidence_bounds > -np.inf]
            )
        for place in map(int, np.argsort(-scores, kind="stable")):
            if place < len(waiting):
                return waiting[place]
            hparams = chosen_at(space, points[place - len(waiting)])
            if self._curves.is_new(hparams):
                return Begin(hparams)
        return Begin(chosen_at(space, points[0]))  # a small space, of which all was tried

    def _model(self) -> Model:
        """The model that learned what was reported, up to a share of `NEWS` ago.

        That long ago is told by the number of reports alone, so that it does not matter who asked
        before.
        """
        reports = last_fit(len(self._curves))
        if self._fitted is None or self._fitted[0] != reports:
            seed = key(self._space.seed, "forest", reports) % 2**32
            self._fitted = (reports, Model(self._curves, reports, self._sign, seed))
        return self._fitted[1]

    def _candidates(self, history: History) -> tuple[Floats, Floats]:
        """New hyperparameters to choose from, as points and as rows: at random, and near the best trials."""
        number, reports = len(history.searched()), last_fit(len(self._curves))
        if self._drawn[0] != (number, reports):
            seed = key(self._space.seed, "forest", "new", number, reports)
            generator = np.random.default_rng(seed)
            points = self._points(history, generator, reports)
            rows = self._curves.new_rows(points, 1.0)
            self._drawn = ((number, reports), (points, rows))
        return self._drawn[1]

    def _points(self, history: History, generator: np.random.Generator, reports: int) -> Floats:
        """Where the new trials to choose from lie: many, or the one that another sampler names."""
        space = self._space
        if space.sampling.name != "forest":
            named = propose(space, history, len(history.searched()))
            return (
                np.array([point_of(space, named)]) if named else np.empty((0, len(space.hparams)))
            )
        random = generator.random((RANDOM, len(space.hparams)))
        points = np.concatenate([random, self._near(generator, reports)])
        if not space.constraints:
            return points
        fit = [one for one in points if allowed(space, chosen_at(space, one))]
        return np.array(fit or np.empty((0, len(space.hparams))))

    def _near(self, generator: np.random.Generator, reports: int) -> Floats:
        """Points near those of the best trials, as they were after so many reports."""
        best = self._curves.best(reports, self._sign)[:PARENTS]
        parents = np.array([point_of(self._space, one.hparams) for one in best])
        points = parents[np.arange(NEAR) % len(best)]
        changed = generator.random(points.shape) < CHANGED
        changed[np.arange(NEAR), generator.integers(points.shape[1], size=NEAR)] = True  # no copies
        moved = np.clip(points + generator.normal(0, STEP, points.shape), 0, 1 - 1e-9)
        ranged = np.array([hyperparameter.kind in RANGES for hyperparameter in self._space.hparams])
        fresh = np.where(ranged, moved, generator.random(points.shape))
        return np.where(changed, fresh, points)

    def _take_in(self, history: History) -> None:
        for trial in history.searched()[self._curves.begun :]:
            self._curves.begin(trial)
        for trial, epoch, value in history.at_rungs[len(self._curves) :]:
            self._curves.take(trial, epoch / (trial.folds * self._space.epochs), value)

    @property
    def _sign(self) -> float:
        return 1.0 if self._space.mode == "max" else -1.0
