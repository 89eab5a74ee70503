"""The rules by which trials stop, wait and go on: each a function of what a study knows.

A rule is asked twice: `decision` when a trial has come to a rung, `pick` when a slot is free.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from raysearch.config.space import Space, Value
from raysearch.search.journal.history import History, Trial
from raysearch.search.journal.rungs import fold_ends, rung_levels

Decision = Literal["on", "pause", "stop"]
# The rules by which a trial may wait at a rung.
PAUSING = ("promotion", "forest")


@dataclass(frozen=True)
class Begin:
    """Start a new trial with these hyperparameters, or with those that the sampler proposes."""

    hparams: Mapping[str, Value] | None = None


Pick = Begin | Trial | None


class Rule(Protocol):
    """What ends trials early, and what a free slot is given."""

    def levels(self, folds: int) -> tuple[int, ...]:
        """The rungs of a trial over `folds` folds, in fold-epochs."""

    def decision(self, history: History, trial: Trial, may_begin: bool) -> Decision:
        """What becomes of `trial`, which has just come to a rung."""

    def pick(self, history: History, may_begin: bool) -> Pick:
        """A paused trial to go on with, or a new one if that is allowed; None for neither."""


class Never:
    """Every trial runs to its end."""

    def __init__(self, space: Space) -> None:
        self._space = space

    def levels(self, folds: int) -> tuple[int, ...]:
        """The ends of the folds."""
        return tuple(fold_ends(self._space.epochs, folds))

    def decision(self, _history: History, _trial: Trial, _may_begin: bool) -> Decision:
        """It goes on."""
        return "on"

    def pick(self, _history: History, may_begin: bool) -> Pick:
        """A new trial."""
        return Begin() if may_begin else None


class Asha(Never):
    """A trial stops unless it is among the best 1/reduction of those at the rung before it."""

    def levels(self, folds: int) -> tuple[int, ...]:
        """The rungs, further apart by the reduction, then the ends of the folds."""
        stopping = self._space.stopping
        return rung_levels(self._space.epochs, folds, stopping.grace, stopping.reduction)

    def decision(self, history: History, trial: Trial, _may_begin: bool) -> Decision:
        """It goes on or stops."""
        space = self._space
        on = history.is_promotable(trial, trial.epoch, space.stopping.reduction, space.mode)
        return "on" if on else "stop"


class Promotion(Asha):
    """A trial waits at each rung until it is among the best 1/reduction of all that came there."""

    def decision(self, history: History, trial: Trial, _may_begin: bool) -> Decision:
        """It goes on at once where it would be promoted, and waits otherwise."""
        rung = history.rungs[trial.folds, trial.epoch]
        space = self._space
        on = rung.among_best(trial.id, space.stopping.reduction, space.mode)
        return "on" if on else "pause"

    def pick(self, history: History, may_begin: bool) -> Pick:
        """The best at the highest rung that may go on, else a new trial.

        When there is neither, and nothing trains or finished, the best of the highest rung.
        """
        space = self._space
        ordered = sorted(history.rungs, key=lambda level: -level[1] / level[0])
        for level in ordered:
            found = history.rungs[level].promotable(space.stopping.reduction, space.mode)
            if found is not None:
                return history.trials[found]
        if may_begin:
            return Begin()
        if any(one.kind == "trial" for one in history.running()) or history.done():
            return None
        for level in ordered:
            found = history.rungs[level].best_waiting(space.mode)
            if found is not None:
                return history.trials[found]
        return None
