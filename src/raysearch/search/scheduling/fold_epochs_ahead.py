"""The fold-epochs that a search still trains, from its simulation and those trained so far."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

from raysearch.config.space import Space
from raysearch.search.journal.history import History, Trial
from raysearch.search.sampling.sampler import num_trials_left
from raysearch.search.sampling.searched_networks import network_of, remaining_networks
from raysearch.search.scheduling.budget import missing_reports
from raysearch.search.scheduling.cost_estimate import SimulatedSearch

# The weight of the simulation, or of the probe, in trials: so many trials weigh as much.
PRIOR_TRIALS = 8.0


class FoldEpochsAhead:
    """Estimates the fold-epochs that a search still trains, and their networks.

    Args:
        space: The search space.
        search: Its simulated search.
    """

    def __init__(self, space: Space, search: SimulatedSearch) -> None:
        self._space, self._search = space, search

    def num_pending(self, history: History) -> int:
        """The number of trials that have not started, if the budget and a grid allow them."""
        if history.spent.fold_epochs >= (self._space.budget.fold_epochs or math.inf):
            return 0
        num_unstarted = max(0, history.planned(self._space.trials) - len(history.searched()))
        return num_trials_left(self._space, history, num_unstarted)

    def fold_epochs(self, history: History) -> float:
        """The fold-epochs that the searched trials still train.

        The simulation's fold-epochs beyond the present number of started trials are multiplied by
        the ratio of those that the trials took up to it to the simulated ones.
        """
        search = self._search
        spent, num_started = history.spent.fold_epochs, len(history.searched())
        expected = float(search.fold_epochs)
        limit = self._space.budget.fold_epochs
        if not num_started:
            return expected
        last_start = history.searched()[-1].started
        at_start = _spent_until(history.searched(), last_start)
        simulated = min(search.spent_at_start(num_started), expected)
        weight = num_started / (num_started + PRIOR_TRIALS)
        ratio = (at_start / simulated) ** weight if at_start and simulated else 1.0
        remaining = at_start + (expected - simulated) * ratio - spent
        if limit is not None:
            # The simulation has no budget; the search ends with it.
            unlimited = sum(trial.fold_epochs for trial in search.trials) * search.factor
            remaining = limit - spent if unlimited >= limit else min(remaining, limit - spent)
        return max(0.0, remaining)

    def residual(self, history: History, trial: Trial) -> float:
        """The fold-epochs that a running trial still trains, at least 1."""
        left = missing_reports(self._space, trial)
        is_last = not (history.done() or history.paused() or self.num_pending(history))
        if trial.kind != "trial" or is_last:
            return float(max(1, left))
        return float(max(1.0, min(left, self._search.residual_length(len(trial.reports)))))

    def mix(self, history: History) -> Mapping[str, float]:
        """The networks of the fold-epochs to come, by their fractions.

        They are those of the simulated trials that start later, and those of the fold-epochs so
        far, without the excluded ones.
        """
        position = int(len(history.searched()) / self._search.factor)
        simulated: dict[str, float] = defaultdict(float)
        for trial in self._search.trials[min(position, len(self._search.trials) // 2) :]:
            simulated[trial.network] += trial.fold_epochs
        spent: dict[str, float] = defaultdict(float)
        for searched in history.searched():
            spent[network_of(self._space, searched.hparams)] += len(searched.reports)
        num_searched = len(history.searched())
        weight = num_searched / (num_searched + PRIOR_TRIALS) if sum(spent.values()) else 0.0
        parts = {
            name: weight * spent[name] / max(1.0, sum(spent.values()))
            + (1 - weight) * simulated[name] / max(1.0, sum(simulated.values()))
            for name in remaining_networks(self._space, history)
        }
        total = sum(parts.values())
        return {name: part / total if total else 1 / len(parts) for name, part in parts.items()}


def _spent_until(trials: Iterable[Trial], end: float) -> int:
    """The fold-epochs that `trials` had trained at the time `end`."""
    return sum(report.time <= end for trial in trials for report in trial.reports)
