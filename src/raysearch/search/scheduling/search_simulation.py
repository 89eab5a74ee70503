"""Simulates a search: the search policy decides, and slots train synthetic learning curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from heapq import heappop, heappush
from itertools import count
from types import MappingProxyType

import numpy as np

from raysearch.config.space import RANGES, Space
from raysearch.search.journal.events import TrialStarted
from raysearch.search.journal.history import Trial
from raysearch.search.sampling.sampler import Proposals, propose
from raysearch.search.sampling.searched_networks import architectures_by_network, architectures_of
from raysearch.search.scheduling.forest import ForestRule
from raysearch.search.scheduling.policy import SearchPolicy, rule_of
from raysearch.search.scheduling.stopping_rules import StoppingRule
from raysearch.search.scheduling.synthetic_curves import (
    STARTED_WEIGHT_FACTOR,
    CurvePosterior,
    synthetic_report,
)

NONE_EXPECTED: Mapping[str, float] = MappingProxyType({})


class SearchSimulation:
    """Runs the search of a policy on slots.

    Args:
        policy: The policy, with the history so far.
        num_slots: The number of trials that train at a time.
        epoch_seconds: The seconds of a report of a trial.
        final_objective: The objective to which the curve of a trial rises.
        rng: The noise of the curves.

    Attributes:
        seconds: The time that has passed.
        num_spent: The fold-epochs of all trials at the start of each trial that it started.
    """

    def __init__(
        self,
        policy: SearchPolicy,
        num_slots: int,
        epoch_seconds: Callable[[Trial], float],
        final_objective: Callable[[Trial], float],
        rng: np.random.Generator,
    ) -> None:
        self._policy, self._num_slots = policy, num_slots
        self._epoch_seconds, self._final_objective = epoch_seconds, final_objective
        self._rng = rng
        self.seconds = 0.0
        self.num_spent: list[int] = []
        self._numbers = count()
        # The next report of each running trial: its time, a number that orders equal times, a name.
        self._running: list[tuple[float, int, str]] = []

    def run(self, running: Mapping[str, float] | None = None) -> None:
        """Run the search to its end.

        Args:
            running: The seconds until the next report of each trial that runs already.
        """
        for name, seconds in (running or {}).items():
            heappush(self._running, (seconds, next(self._numbers), name))
        policy = self._policy
        while True:
            self._fill_slots()
            if not self._running:
                return
            self.seconds, _number, name = heappop(self._running)
            trial = policy.history.trials[name]
            final_objective = self._final_objective(trial)
            policy.apply(synthetic_report(policy, trial, final_objective, self._rng))
            decision = policy.decide(trial)
            if decision is not None:
                policy.apply(decision)
            else:
                self._train(name)
            if policy.exhausted() is not None:
                return

    def _fill_slots(self) -> None:
        policy = self._policy
        while len(self._running) < self._num_slots and (event := policy.next()) is not None:
            if isinstance(event, TrialStarted):
                self.num_spent.append(policy.history.spent.fold_epochs)
            policy.apply(event)
            self._train(event.trial)

    def _train(self, name: str) -> None:
        seconds = self._epoch_seconds(self._policy.history.trials[name])
        heappush(self._running, (self.seconds + seconds, next(self._numbers), name))


def simulated_rule(
    space: Space,
    epoch_seconds: Mapping[str, float],
    expected: Mapping[str, float] = NONE_EXPECTED,
    started_weight_factor: float = STARTED_WEIGHT_FACTOR,
    proposals: Proposals = propose,
) -> StoppingRule:
    """The rule of `space`; the forest is replaced, because it takes seconds to import and fit.

    Args:
        space: The search space.
        epoch_seconds: The seconds of a report by network.
        expected: The expected final objective by network; by default 0.
        started_weight_factor: The factor of the exploration weight of trials that have started.
        proposals: Makes the proposals; by default the sampler of `space`.
    """
    if space.stopping.rule != "forest":
        return rule_of(space)
    num_folds = min(map(int, space.values_of("folds")))
    names = architectures_of(space)
    seconds = _by_architecture(
        space, {name: max(epoch_seconds[name], 1e-9) for name in epoch_seconds}
    )
    scores = _by_architecture(space, expected)
    # A choice with one value is no feature.
    columns = names if len(names) > 1 else ()
    posterior = partial(
        CurvePosterior,
        num_folds=num_folds,
        log_seconds=np.log([seconds.get(name, 1.0) for name in columns]),
        expected=np.array([scores.get(name, 0.0) for name in columns]),
        started_weight_factor=started_weight_factor,
        first_column=_first_column(space, "architecture"),
    )
    return ForestRule(space, posterior, proposals)


def _by_architecture(space: Space, values: Mapping[str, float]) -> dict[str, float]:
    """Return the mean value of each architecture over its networks."""
    architectures = architectures_by_network(space)
    by_architecture: dict[str, list[float]] = {}
    for network, value in values.items():
        by_architecture.setdefault(architectures[network], []).append(value)
    return {name: sum(each) / len(each) for name, each in by_architecture.items()}


def _first_column(space: Space, name: str) -> int:
    """The first of the columns of the choice `name` among the features of `feature_row`."""
    num_columns = 0
    for hparam in space.hparams:
        if hparam.name == name:
            break
        if hparam.kind in RANGES:
            num_columns += 1
        elif len(hparam.values) > 1:
            num_columns += len(hparam.values)
    return num_columns
