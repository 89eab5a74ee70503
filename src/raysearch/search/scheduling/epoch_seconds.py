"""The seconds from one report of a trial to the next, over the configurations of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class EpochSeconds:
    """The seconds of a fold-epoch of a network; of a frozen one, those of a fold.

    Attributes:
        values: Those of configurations that represent equal parts of the space; at least one.
    """

    values: tuple[float, ...]

    @property
    def expected(self) -> float:
        """The mean over the configurations."""
        return sum(self.values) / len(self.values)

    @property
    def low(self) -> float:
        """That of the fastest configuration."""
        return min(self.values)

    @property
    def high(self) -> float:
        """That of the slowest configuration."""
        return max(self.values)


def seconds_of_network(seconds: Mapping[str, float], network: str) -> float:
    """Return the seconds of a network; of one that is not known, the mean of the others.

    Constraints may leave so few configurations of a network that none was among the sampled ones.
    """
    if network in seconds or not seconds:
        return seconds.get(network, 1.0)
    return sum(seconds.values()) / len(seconds)


SecondsByNetwork = Mapping[str, EpochSeconds]


def refit_speedup(cpus: float, trial_cpus: float) -> float:
    """How many times as fast a refit on `cpus` cores is as a trial on `trial_cpus`.

    Args:
        cpus: The cores of the node, all of which the refit uses.
        trial_cpus: The cores of a trial.
    """
    return float(max(1.0, cpus / max(1.0, trial_cpus)) ** REFIT_SPEEDUP_EXPONENT)


# Twice the cores train a small network 1.4 times as fast.
REFIT_SPEEDUP_EXPONENT = 0.5


def busy_seconds(loads: list[float], work: float) -> float:
    """The seconds until slots with `loads` have also done `work`, which any slot can do.

    Args:
        loads: The seconds that each slot is still busy; at least one.
        work: Seconds of work in small parts, which go to the slots that are free first.
    """
    level, filled = 0.0, 0
    ordered = sorted(loads)
    for filled, load in enumerate(ordered, 1):
        next_load = ordered[filled] if filled < len(ordered) else float("inf")
        level = (sum(ordered[:filled]) + work) / filled
        if level <= next_load:
            return max(level, ordered[-1], load)
    return level
