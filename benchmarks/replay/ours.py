"""Raysearch's own search on the simulated clock: the decisions of `raysearch.search`.

Its runs are never kept. For the table, `METHODS` in methods.py gets "raysearch": "replay.ours".
"""

from __future__ import annotations

from raysearch.search.rungs import keeps_on, rung_levels
from raysearch.search.sampler import Sampler
from raysearch.search.space import Kind, Knob, Rule, Space, Stopping
from replay.clock import Work
from replay.curves import EPOCHS, Ranges

TRIALS = 10**6
KINDS: dict[tuple[str, bool], Kind] = {
    ("int", False): "int",
    ("int", True): "logint",
    ("float", False): "uniform",
    ("float", True): "loguniform",
}


def space(ranges: Ranges, seed: int, trials: int = TRIALS, rule: Rule = "asha") -> Space:
    """The search space of lcbench in the house's words."""
    knobs = (
        Knob(name, KINDS[kind, log], (low, high)) for name, (kind, low, high, log) in ranges.items()
    )
    stopping = Stopping(grace=5, reduction=3, rule=rule)
    return Space(tuple(knobs), "accuracy", "max", EPOCHS, trials, seed, stopping)


class Raysearch:
    """Asks the study's sampler for trials, and its rungs which of them train on."""

    def __init__(self, ranges: Ranges, seed: int) -> None:
        self._space = space(ranges, seed)
        self._sampler = Sampler(self._space, seed)
        stopping = self._space.stopping
        levels = rung_levels(EPOCHS, 1, stopping.grace, stopping.reduction)
        self._rungs: dict[int, list[float]] = {level: [] for level in levels}
        self._count = 0

    def next(self) -> Work:
        trial = f"t{self._count:04d}"
        self._count += 1
        return Work(trial, self._sampler.propose(trial), 0)

    def report(self, trial: str, epoch: int, value: float, seconds: float) -> bool:  # noqa: ARG002
        self._sampler.report(trial, epoch, value)
        if epoch == EPOCHS:
            self._sampler.end(trial, "finished")
            return False
        earlier = self._rungs.get(epoch)
        if earlier is None:
            return True
        goes_on = keeps_on(earlier, value, self._space.stopping.reduction, self._space.mode)
        earlier.append(value)
        if not goes_on:
            self._sampler.end(trial, "stopped")
        return goes_on


def method(ranges: Ranges, seed: int) -> Raysearch:
    return Raysearch(ranges, seed)
