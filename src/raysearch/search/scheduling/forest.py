"""Selects what trains next by a surrogate model: a random forest over learning curves.

The forest learns from every pair of rungs of every trial how the hyperparameters and the curve up
to one rung predict the objective at a later one. A free slot is given to the trial, paused or new,
with the largest upper confidence bound of its final objective. The idea is freeze-thaw Bayesian
optimization (Swersky, Snoek, Adams, arXiv:1406.3896), with a random forest as the surrogate in
place of a Gaussian process, as in SMAC (Hutter, Hoos, Leyton-Brown, LION 2011).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.config.constraints import allowed
from raysearch.config.report_interval import trial_epochs
from raysearch.config.space import RANGES, Space
from raysearch.config.space_geometry import unit_point, values_at_point
from raysearch.config.space_prior import SpacePrior
from raysearch.metrics.objective import objective_sign
from raysearch.search.journal.events import Origin
from raysearch.search.journal.history import History, Trial, num_folds, total_fold_epochs
from raysearch.search.journal.rungs import even_levels
from raysearch.search.sampling.exclusions import without_excluded_values
from raysearch.search.sampling.sampler import Proposals, propose, sampled_origin
from raysearch.search.scheduling.budget import HOUR_S, fraction_spent
from raysearch.search.scheduling.cheap_trials import cheap_limit, relative_costs
from raysearch.search.scheduling.exploration import ExplorationTrials
from raysearch.search.scheduling.learning_curves import Curves, Floats, ForestSurrogate, Surrogate
from raysearch.search.scheduling.stopping_rules import Decision, NoStopping, Pick, StartTrial
from raysearch.search.transfer.study_memory import StudyMemory
from raysearch.training.seeds import key

# A candidate's bound is raised by its log density in the user's prior, times so many standard
# deviations of the bounds, divided by the number of trials.
PRIOR_WEIGHT = 0.5
NUM_BY_PRIOR = 100
# So many trials start before the surrogate is used.
NUM_STARTUP_TRIALS = 8
# Of these, the trials with these numbers are the sampler's if earlier studies propose the others:
# whether the forecasts of the earlier studies are valid is seen by both.
SAMPLED_STARTUP_TRIALS = (1, 3, 5, 7)
# Candidates for a new trial: random ones, mutations of the best trials, and the best configurations
# by earlier studies.
NUM_RANDOM, NUM_MUTATED, NUM_REMEMBERED = 300, 100, 100
# Standard deviation of a mutation in the unit cube, the probability that it changes a
# hyperparameter, and the number of trials that are mutated.
MUTATION_STD, MUTATION_PROBABILITY, NUM_PARENTS = 0.15, 0.4, 5
# Standard deviations of the acquisition by which a fold-epoch e times as expensive is penalized.
# If the budget is in fold-epochs, all cost the same.
COST_WEIGHT = 0.6
# Exploration weight of a paused trial's upper confidence bound. The frugal one applies, so that
# more new trials start, if the budget would otherwise be spent before the planned trials started.
EXPLORATION_WEIGHT, FRUGAL_EXPLORATION_WEIGHT = 1.5, 0.75
# After this fraction of the budget, paused trials take precedence over new ones, so that the study
# does not end with many trials of which few were compared on all folds.
SEARCH_FRACTION = 0.5
# So many of the paused trials are candidates, the best of them.
MAX_WAITING = 300
# Number of rungs in the first fold.
NUM_RUNGS = 17
# The surrogate is fitted again when the number of reports has grown by this fraction.
REFIT_FRACTION = 1 / 10


def last_fit(num_reports: int) -> int:
    """The number of reports at the last fit of the surrogate, when there are `num_reports`."""
    interval = max(1, int(num_reports * REFIT_FRACTION))
    return num_reports - num_reports % interval


@dataclass(frozen=True)
class Situation:
    """What a pick depends on; while it stays the same, the pick does not change."""

    num_reports: int
    num_trials: int
    num_finished: int
    exploration_weight: float
    num_excluded: int
    waiting: tuple[str, ...]
    clock_s: float


@dataclass(frozen=True)
class Candidates:
    """Candidates for a new trial.

    Args:
        points: Points of the unit cube, shape (candidates, hyperparameters).
        rows: The same as inputs of the surrogate, shape (candidates, features).
        log_priors: Their log densities in the user's prior, shape (candidates,).
        fold_epochs: Their fold-epochs, if the budget has hours.
        num_own: The number of the first that are not of earlier studies.
    """

    points: Floats
    rows: Floats
    log_priors: Floats
    fold_epochs: Sequence[int]
    num_own: int


class ForestRule(NoStopping):
    """Gives each free slot to the trial, paused or new, with the largest acquisition value.

    `ExplorationTrials` take precedence.

    Args:
        space: The search space.
        fit: Fits the surrogate to the first reports: their curves, their number, the sign of the
            objective and a seed.
        proposals: Makes the proposals of another sampler than the forest; by default that sampler.
        memory: The models of earlier studies; None without any.
    """

    def __init__(
        self,
        space: Space,
        fit: Callable[[Curves, int, float, int], Surrogate] = ForestSurrogate,
        proposals: Proposals = propose,
        memory: StudyMemory | None = None,
    ) -> None:
        super().__init__(space)
        self._fit, self._proposals, self._memory = fit, proposals, memory
        self._curves, self._exploration = Curves(space, memory), ExplorationTrials(space)
        # The last pick, by whether a new trial may start, and whether a paused one must improve.
        self._last_picks: dict[tuple[bool, bool], tuple[Situation, Pick]] = {}
        self._surrogate: tuple[int, Surrogate] | None = None
        self._candidates: tuple[tuple[int, int, int], Candidates] | None = None

    def levels(self, folds: int, epochs: int) -> tuple[int, ...]:
        """Evenly spaced rungs in the first fold, then the ends of the folds."""
        step = max(1, round(epochs / NUM_RUNGS))
        return even_levels(epochs, folds, self._space.stopping.grace_period, step)

    def decide(self, history: History, trial: Trial, may_start: bool) -> Decision:
        """The trial continues if it would be picked, and pauses otherwise."""
        pick = self._pick(history, [*history.paused(), trial], may_start)
        return "continue" if pick is trial else "pause"

    def pick(self, history: History, may_start: bool) -> Pick:
        """An exploration trial, else the paused or new trial with the largest acquisition value.

        None if no new trial may start and no paused trial is expected to become the best.
        """
        return self._pick(history, history.paused(), may_start)

    def best_paused(self, history: History) -> Trial | None:
        """The paused trial with the largest acquisition value, even if it may not become the best.

        None if no trial is paused.
        """
        weight = self._exploration_weight(history)
        pick = self._cached_pick(history, history.paused(), False, weight, must_improve=False)
        return pick if isinstance(pick, Trial) else None

    def propose(self, history: History) -> StartTrial:
        """The best new trial; that of the sampler until the surrogate can be fitted."""
        self._update(history)
        if len(history.searched()) < NUM_STARTUP_TRIALS or not len(self._curves):
            return self._startup_trial(history)
        pick = self._maximize(history, [], True, EXPLORATION_WEIGHT)
        return pick if isinstance(pick, StartTrial) else StartTrial()

    def _pick(self, history: History, waiting: list[Trial], may_start: bool) -> Pick:
        exploration_trial = self._exploration.next(history, waiting)
        if exploration_trial is not None:
            return exploration_trial
        weight = self._exploration_weight(history)
        if may_start and fraction_spent(self._space, history) >= SEARCH_FRACTION:
            pick = self._cached_pick(history, waiting, False, weight)
            if pick is not None:
                return pick
        return self._cached_pick(history, waiting, may_start, weight)

    def _exploration_weight(self, history: History) -> float:
        """The weight for paused trials, which is small if the planned trials start too late."""
        spent = fraction_spent(self._space, history)
        num_due = history.planned(self._space.trials) * min(1.0, spent / SEARCH_FRACTION)
        is_behind = len(history.searched()) < num_due
        return FRUGAL_EXPLORATION_WEIGHT if is_behind else EXPLORATION_WEIGHT

    def _cached_pick(
        self,
        history: History,
        waiting: list[Trial],
        may_start: bool,
        exploration_weight: float,
        *,
        must_improve: bool = True,
    ) -> Pick:
        self._update(history)
        num_trials = len(history.searched())
        if may_start and (num_trials < NUM_STARTUP_TRIALS or not len(self._curves)):
            return self._startup_trial(history)
        if not len(self._curves):
            return None
        situation = Situation(
            num_reports=len(self._curves),
            num_trials=num_trials,
            num_finished=len(history.done()),
            exploration_weight=exploration_weight,
            num_excluded=len(history.exclusions),
            waiting=tuple(trial.id for trial in waiting),
            clock_s=0.0 if self._space.budget.hours is None else history.spent.clock_s,
        )
        last = self._last_picks.get((may_start, must_improve))
        if last is None or last[0] != situation:
            pick = self._maximize(
                history, waiting, may_start, exploration_weight, must_improve=must_improve
            )
            last = self._last_picks[may_start, must_improve] = (situation, pick)
        return last[1]

    def _startup_trial(self, history: History) -> StartTrial:
        """A trial before the surrogate is used: of an earlier study, or of the sampler."""
        trials = history.searched()
        if self._memory is None or len(trials) in SAMPLED_STARTUP_TRIALS:
            return StartTrial()
        self._curves.weigh_memory(len(self._curves), self._sign)
        hparams = self._memory.next_configuration(
            [trial.hparams for trial in trials], history.is_excluded
        )
        return StartTrial(hparams, None if hparams is None else "memory")

    def _maximize(
        self,
        history: History,
        waiting: list[Trial],
        may_start: bool,
        exploration_weight: float,
        *,
        must_improve: bool = True,
    ) -> Pick:
        """The trial among `waiting` and the new candidates that maximizes the acquisition.

        If no new trial may start and `must_improve`, it is expected to become the best.
        """
        space, sign = self._space, self._sign
        self._curves.weigh_memory(last_fit(len(self._curves)), sign)
        waiting = sorted(waiting, key=lambda trial: -sign * (trial.objective or 0.0))[:MAX_WAITING]
        candidates = self._new_candidates(history)
        rows = [self._curves.rows(waiting, 1.0)] if waiting else []
        rows += [candidates.rows] if may_start else []
        if not sum(map(len, rows)):
            return None
        features = np.concatenate(rows).astype(np.float32)
        surrogate = self._fitted_surrogate()
        bounds = surrogate.upper_confidence_bounds(features, exploration_weight)
        best = history.best(None, space.mode)
        if not may_start and best is not None and must_improve:
            improves = bounds > surrogate.normal_score(sign * best.final_objective)
            if not improves.any():
                return None
            bounds = np.where(improves, bounds, -np.inf)
        new, num_trials = candidates if may_start else None, len(history.searched())
        acquisition = self._acquisition(history, waiting, new, bounds, features)
        for index in map(int, np.argsort(-acquisition, kind="stable")):
            if index < len(waiting):
                return waiting[index]
            start = self._start_at(candidates, index - len(waiting), num_trials)
            if start.hparams is not None and self._curves.is_new(start.hparams):
                return start
        # The space is small, and every candidate has been tried.
        return self._start_at(candidates, 0, num_trials)

    def _acquisition(
        self,
        history: History,
        waiting: list[Trial],
        new: Candidates | None,
        bounds: Floats,
        features: NDArray[np.float32],
    ) -> Floats:
        """The bounds, raised by the prior and lowered by the costs, shape (rows,).

        It is minus infinity for a trial that cannot end before the study does, if another can.
        """
        space, surrogate = self._space, self._fitted_surrogate()
        std = np.std(bounds[bounds > -np.inf])
        acquisition = bounds.copy()
        if space.prior and new is not None:
            weight = PRIOR_WEIGHT * std / max(1, len(history.searched()))
            acquisition[len(waiting) :] += weight * new.log_priors
        budget = space.budget
        if budget.fold_epochs is not None and budget.hours is None:
            return acquisition
        log_seconds = surrogate.log_seconds(features)
        if budget.fold_epochs is None:
            limit = cheap_limit(log_seconds)
            num_cheap = 0 if limit is None else self._curves.num_cheap(limit)
            costs = relative_costs(log_seconds, limit, num_cheap)
            acquisition -= COST_WEIGHT * costs * std
        if budget.hours is not None and history.done():
            missing = [total_fold_epochs(space, trial) - trial.epoch for trial in waiting]
            missing += [] if new is None else new.fold_epochs
            seconds = np.exp(log_seconds) * missing
            can_end = seconds <= budget.hours * HOUR_S - history.spent.clock_s
            if (can_end & (acquisition > -np.inf)).any():
                acquisition[~can_end] = -np.inf
        return acquisition

    def _start_at(self, candidates: Candidates, number: int, num_trials: int) -> StartTrial:
        """A trial at a candidate, and what proposed it."""
        origin: Origin = "memory" if number >= candidates.num_own else "model"
        if self._space.sampler.name != "forest":
            origin = sampled_origin(self._space, num_trials)
        return StartTrial(values_at_point(self._space, candidates.points[number]), origin)

    def _fitted_surrogate(self) -> Surrogate:
        """The surrogate, fitted to the reports up to the last fit.

        The time of that fit depends only on the number of reports, so that the same events lead to
        the same decisions, however often the rule was called.
        """
        num_reports = last_fit(len(self._curves))
        if self._surrogate is None or self._surrogate[0] != num_reports:
            seed = key(self._space.seed, "forest", num_reports) % 2**32
            self._surrogate = (
                num_reports,
                self._fit(self._curves, num_reports, self._sign, seed),
            )
        return self._surrogate[1]

    def _new_candidates(self, history: History) -> Candidates:
        """Candidates for a new trial: random ones, and mutations of the best trials."""
        num_trials, num_reports = len(history.searched()), last_fit(len(self._curves))
        version = (num_trials, num_reports, len(history.exclusions))
        if self._candidates is None or self._candidates[0] != version:
            seed = key(self._space.seed, "forest", "new", num_trials, num_reports)
            points = self._points(history, np.random.default_rng(seed), num_reports)
            num_own = len(points)
            if self._memory is not None and self._space.sampler.name == "forest":
                remembered = self._memory.best(NUM_REMEMBERED, history.is_excluded)
                points = np.concatenate([points, self._memory.points(remembered)])
            rows = self._curves.new_rows(points, 1.0)
            log_priors = SpacePrior(self._space).log_density(points)
            fold_epochs = self._fold_epochs(points)
            candidates = Candidates(points, rows, log_priors, fold_epochs, num_own)
            self._candidates = (version, candidates)
        return self._candidates[1]

    def _fold_epochs(self, points: Floats) -> list[int]:
        """The fold-epochs of the candidates at `points`; none if they do not matter."""
        space = self._space
        if space.budget.hours is None:
            return []
        configurations = [values_at_point(space, point) for point in points]
        return [num_folds(space, each) * trial_epochs(space, each) for each in configurations]

    def _points(self, history: History, rng: np.random.Generator, num_reports: int) -> Floats:
        """The points of the candidates; of another sampler, the one point that it proposes."""
        space = self._space
        num_hparams = len(space.hparams)
        if space.sampler.name != "forest":
            hparams = self._proposals(space, history, len(history.searched()))
            return np.array([unit_point(space, hparams)]) if hparams else np.empty((0, num_hparams))
        random = rng.random((NUM_RANDOM, num_hparams))
        points = np.concatenate([random, self._mutated_points(rng, num_reports)])
        if space.prior:
            points = np.concatenate([points, SpacePrior(space).points(NUM_BY_PRIOR, rng)])
        points = without_excluded_values(space, history, points, rng)
        if not space.constraints:
            return points
        valid = [point for point in points if allowed(space, values_at_point(space, point))]
        return np.array(valid or np.empty((0, num_hparams)))

    def _mutated_points(self, rng: np.random.Generator, num_reports: int) -> Floats:
        """Mutations of the points of the best trials after `num_reports` reports."""
        best = self._curves.best(num_reports, self._sign)[:NUM_PARENTS]
        parents = np.array([unit_point(self._space, trial.hparams) for trial in best])
        points = parents[np.arange(NUM_MUTATED) % len(best)]
        changed = rng.random(points.shape) < MUTATION_PROBABILITY
        # Every mutation changes at least one hyperparameter.
        changed[np.arange(NUM_MUTATED), rng.integers(points.shape[1], size=NUM_MUTATED)] = True
        moved = np.clip(points + rng.normal(0, MUTATION_STD, points.shape), 0, 1 - 1e-9)
        ranged = np.array([hyperparameter.kind in RANGES for hyperparameter in self._space.hparams])
        new_values = np.where(ranged, moved, rng.random(points.shape))
        return np.where(changed, new_values, points)

    def _update(self, history: History) -> None:
        for trial in history.searched()[self._curves.num_trials :]:
            self._curves.add_trial(trial)
        for trial, epoch, value in history.at_rungs[len(self._curves) :]:
            self._curves.add_report(trial, epoch, value)

    @property
    def _sign(self) -> float:
        return objective_sign(self._space.mode)
