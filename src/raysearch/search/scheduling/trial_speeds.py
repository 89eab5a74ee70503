"""The seconds of a fold-epoch of each trial and network, as measured so far."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

from raysearch.config.space import Space
from raysearch.search.journal.history import History, Trial
from raysearch.search.sampling.searched_networks import (
    network_of,
    remaining_networks,
    reports_per_fold,
)
from raysearch.search.scheduling.budget import fold_reports
from raysearch.search.scheduling.epoch_seconds import SecondsByNetwork


class Speeds:
    """The seconds of a fold-epoch of each trial and each network.

    Args:
        space: The search space.
        history: The trials, with their measured seconds.
        probed: What a probe measured, by network.
        elapsed: The seconds since the last event of each running trial.
    """

    def __init__(
        self,
        space: Space,
        history: History,
        probed: SecondsByNetwork,
        elapsed: Mapping[str, float],
    ) -> None:
        self._space, self._probed, self._elapsed = space, probed, elapsed
        self._remaining = remaining_networks(space, history)
        self._measured: dict[str, list[float]] = defaultdict(list)
        self._lower_bounds: dict[str, float] = defaultdict(float)
        for trial in history.trials.values():
            name = "benchmark" if trial.kind == "benchmark" else network_of(space, trial.hparams)
            if trial.reports:
                self._measured[name].append(_mean_seconds(trial))
            elif trial.id in elapsed:
                bound = max(self._lower_bounds[name], elapsed[trial.id])
                self._lower_bounds[name] = bound
        self._correction = self._probe_correction()

    def _probe_correction(self) -> float:
        """The geometric mean of the ratios of measured to probed seconds."""
        logs = [
            math.log(mean(seconds) / self._probed[name].expected)
            for name, seconds in self._measured.items()
            if name in self._probed and mean(seconds) > 0 and self._probed[name].expected > 0
        ]
        return math.exp(mean(logs)) if logs else 1.0

    def measured_fraction(self) -> float:
        """The fraction of the remaining networks that are probed or measured."""
        names = self._remaining
        return sum(name in self._measured or name in self._probed for name in names) / len(names)

    def of_network(self, name: str) -> float:
        """The mean seconds of a fold-epoch of a network.

        Of one that is neither measured nor probed, those of the others, but not less than the
        first fold-epoch of a running trial has taken.
        """
        measured = self._measured.get(name, [])
        if name in self._probed:
            probed = self._probed[name].expected * self._correction
            return (probed + sum(measured)) / (1 + len(measured))
        if measured:
            return mean(measured)
        seconds_of_others = [
            mean(seconds) for key, seconds in self._measured.items() if key != "benchmark"
        ]
        seconds_of_others += [
            seconds.expected * self._correction for seconds in self._probed.values()
        ]
        return max(mean(seconds_of_others), 1.5 * self._lower_bounds[name])

    def of_trial(self, trial: Trial) -> float:
        """The mean seconds of a fold-epoch of a trial; before its first, of its network."""
        if trial.reports:
            return _mean_seconds(trial)
        expected = self.of_network(network_of(self._space, trial.hparams))
        return max(expected, self._elapsed.get(trial.id, 0.0))

    def of_mix(self, fractions: Mapping[str, float]) -> float:
        """The mean seconds of a fold-epoch of networks by their fractions."""
        return sum(part * self.of_network(name) for name, part in fractions.items())

    def fold_of_trial(self, trial: Trial) -> float:
        """The mean seconds of a fold of a trial."""
        return self.of_trial(trial) * fold_reports(self._space, trial)

    def fold_of_mix(self, fractions: Mapping[str, float]) -> float:
        """The mean seconds of a fold of networks by their fractions."""
        return sum(
            part * self.of_network(name) * reports_per_fold(self._space, name)
            for name, part in fractions.items()
        )


def _mean_seconds(trial: Trial) -> float:
    return trial.seconds / len(trial.reports)


def mean(values: list[float]) -> float:
    """Return the mean of `values`; 0 without any."""
    return sum(values) / len(values) if values else 0.0
