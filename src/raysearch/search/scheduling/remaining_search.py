"""Simulates the rest of a running search, from its trials so far.

The objectives so far are transformed to the scale of synthetic curves by their ranks. The search
policy then decides on, and the curves of unfinished trials continue from where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from raysearch.config.report_interval import trial_epochs
from raysearch.config.space import Budget, NetworkLimits, Space
from raysearch.metrics.objective import objective_sign
from raysearch.search.journal.events import (
    Event,
    FoldReport,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
    ValueExcluded,
)
from raysearch.search.journal.history import History, Trial
from raysearch.search.sampling.searched_networks import network_of, networks_of
from raysearch.search.scheduling.policy import SearchPolicy
from raysearch.search.scheduling.search_simulation import (
    SearchSimulation,
    simulated_rule,
)
from raysearch.search.scheduling.simulated_proposals import (
    SimulatedProposals,
    proposed_networks,
    simulated_sampler,
)
from raysearch.search.scheduling.synthetic_curves import NOISE, fold_fraction, risen

# The events of a trial that have the same time, in their order.
STARTED, REPORTED, LEFT = range(3)
# A network is taken to be as good as all by this weight, in trials; the objectives of its
# trials have this standard deviation.
PRIOR_TRIALS, RESIDUAL_STD = 1.0, 0.8
# The forest trusts the curves of a study, whose hyperparameters matter, more than in a simulation.
STARTED_WEIGHT_FACTOR = 1.2


@dataclass(frozen=True)
class SimulatedRest:
    """The rest of a search, simulated once.

    Attributes:
        seconds: Its duration.
        champion: The best finished trial; None if none finished.
        fold_epochs: The fold-epochs that it trained.
    """

    seconds: float
    champion: Trial | None
    fold_epochs: int


@dataclass(frozen=True)
class NetworkEffect:
    """The posterior distribution of the mean final objective of a network.

    Attributes:
        mean: Its mean, in standard deviations of the final objectives of all trials.
        std: Its standard deviation.
    """

    mean: float
    std: float

    @classmethod
    def given(cls, scores: Sequence[float]) -> NetworkEffect:
        """The effect of a network whose trials have `scores`."""
        weight = len(scores) + PRIOR_TRIALS
        return cls(sum(scores) / weight, weight**-0.5)

    def draw(self, rng: np.random.Generator) -> float:
        """Draw the mean final objective."""
        return float(rng.normal(self.mean, self.std))


class RemainingSearch:
    """The rest of a search, which can be simulated with several seeds.

    Args:
        space: The search space.
        history: The trials so far.
    """

    def __init__(self, space: Space, history: History) -> None:
        self._history, self._planned = history, space
        self._proposed = proposed_networks(space, history)
        # The targets of the objective do not apply to its transformed values.
        budget = Budget(
            fold_epochs=space.budget.fold_epochs, no_improvement=space.budget.no_improvement
        )
        self._space = replace(
            space,
            trials=history.planned(space.trials),
            sampler=simulated_sampler(space.sampler),
            budget=budget,
            mode="max",
            limits=NetworkLimits(),
        )
        self._values = synthetic_values(space, history)
        self._effects = self._network_effects()
        self._events = self._synthetic_events()

    def simulate(
        self,
        seed: int,
        num_slots: int,
        epoch_seconds: Callable[[Trial], float],
        by_network: Mapping[str, float],
        running: Mapping[str, float],
    ) -> SimulatedRest:
        """Simulate the rest of the search.

        Args:
            seed: The seed of the curves.
            num_slots: The number of trials that train at a time.
            epoch_seconds: The seconds of a fold-epoch of a trial.
            by_network: The mean of these by network.
            running: The seconds until the next report of each running trial.
        """
        rng = np.random.default_rng(seed)
        space = self._space
        expected = {name: effect.draw(rng) for name, effect in self._effects.items()}
        proposals = SimulatedProposals(self._planned, expected, by_network, self._proposed, seed)
        rule = simulated_rule(space, by_network, expected, STARTED_WEIGHT_FACTOR, proposals)
        policy = SearchPolicy(space, self._events, rule, proposals)
        num_spent = policy.history.spent.fold_epochs
        finals: dict[str, float] = {}

        def final_objective(trial: Trial) -> float:
            if trial.id not in finals:
                finals[trial.id] = self._final_objective(trial, expected, rng)
            return finals[trial.id]

        simulation = SearchSimulation(policy, num_slots, epoch_seconds, final_objective, rng)
        simulation.run(running)
        return SimulatedRest(
            simulation.seconds,
            policy.history.best(None, "max"),
            policy.history.spent.fold_epochs - num_spent,
        )

    def _final_objective(
        self, trial: Trial, by_network: Mapping[str, float], rng: np.random.Generator
    ) -> float:
        """Draw the final objective of a trial, given its last value and the means by network."""
        values = self._values.get(trial.id)
        expected = by_network.get(network_of(self._space, trial.hparams), 0.0)
        if not values:
            return float(rng.normal(expected, RESIDUAL_STD))
        epoch = max(values)
        part = risen_part(self._space, trial, epoch)
        precision = part**2 + NOISE**2
        mean = expected + (values[epoch] - part * expected) * part / precision
        return float(rng.normal(mean, NOISE / np.sqrt(precision)))

    def _network_effects(self) -> dict[str, NetworkEffect]:
        """What the trials so far say about the final objective of each network."""
        scores: dict[str, list[float]] = {}
        for trial in self._history.searched():
            values = self._values.get(trial.id)
            if values:
                epoch = max(values)
                part = risen_part(self._space, trial, epoch)
                score = values[epoch] / float(np.hypot(part, NOISE))
                scores.setdefault(network_of(self._space, trial.hparams), []).append(score)
        return {
            name: NetworkEffect.given(scores.get(name, ())) for name in networks_of(self._space)
        }

    def _synthetic_events(self) -> list[Event]:
        """The exclusions and the events of the trials so far, with transformed objectives."""
        events: list[tuple[float, int, Event]] = []
        for trial in self._history.trials.values():
            values = self._values.get(trial.id, {})
            start = TrialStarted(trial.id, trial.kind, trial.hparams, trial.seed, trial.folds)
            events.append((trial.started, STARTED, start))
            rungs = [report.epoch for report in trial.reports if report.rung]
            for report in trial.reports:
                value = values.get(report.epoch, 0.0)
                events.append((report.time, REPORTED, _with_value(report, value, self._space)))
                if trial.in_idle_slot and trial.status == "running" and report.epoch == rungs[-1]:
                    promoted = TrialPromoted(trial.id, in_idle_slot=True)
                    events.append((report.time, REPORTED, TrialPaused(trial.id)))
                    events.append((report.time, REPORTED, promoted))
            last_time = trial.reports[-1].time if trial.reports else trial.started
            if trial.status == "paused":
                events.append((last_time, LEFT, TrialPaused(trial.id)))
            elif trial.status != "running":
                end = TrialEnded(trial.id, trial.status, trial.reason)
                events.append((max(last_time, trial.ended), LEFT, end))
        events.sort(key=lambda item: item[:2])
        exclusions = [ValueExcluded(*pair) for pair in self._history.exclusions]
        return [*exclusions, *(event for _time, _order, event in events)]


def _with_value(report: FoldReport, value: float, space: Space) -> FoldReport:
    metrics = {space.metric: value}
    return replace(report, objective=value, metrics=metrics, pooled=None)


def synthetic_values(space: Space, history: History) -> dict[str, dict[int, float]]:
    """The objectives of the searched trials on the scale of synthetic curves, by trial and epoch.

    At the first fold-epoch, they are the normal scores of the ranks. At a later one, fewer trials
    are left, usually the better ones; these have the scores that they had before, in the order of
    their new ranks.
    """
    sign = objective_sign(space.mode)
    scores: dict[str, float] = {}
    values: dict[str, dict[int, float]] = {}
    objectives: dict[int, dict[str, float]] = {}
    for trial in history.searched():
        for report in trial.reports:
            if report.objective is not None:
                objectives.setdefault(report.epoch, {})[trial.id] = sign * report.objective
    for epoch in sorted(objectives):
        at_epoch = objectives[epoch]
        names = sorted(at_epoch, key=lambda name: at_epoch[name])
        new = [name for name in names if name not in scores]
        quantiles = (np.arange(len(new)) + 0.5) / max(1, len(new))
        scores |= dict(zip(new, normal_scores(quantiles).tolist(), strict=True))
        ordered = sorted(scores[name] for name in names)
        scores |= dict(zip(names, ordered, strict=True))
        for name in names:
            scale = float(np.hypot(risen_part(space, history.trials[name], epoch), NOISE))
            values.setdefault(name, {})[epoch] = scores[name] * scale
    return values


def risen_part(space: Space, trial: Trial, epoch: int) -> float:
    """The part of its final objective that the curve of a trial has after `epoch` fold-epochs."""
    return float(risen(fold_fraction(epoch, trial_epochs(space, trial.hparams))))


def normal_scores(quantiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles of the standard normal distribution, without scipy, which is slow to import."""
    normal = NormalDist()
    return np.array([normal.inv_cdf(quantile) for quantile in quantiles.tolist()])
