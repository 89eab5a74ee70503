"""The early-stopping rules: which trials stop, pause or continue, and what a free slot trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.space import Space
from raysearch.search.journal.events import Origin
from raysearch.search.journal.history import History, Trial
from raysearch.search.journal.rungs import RungKey, fold_ends, rung_levels

Decision = Literal["continue", "pause", "stop"]
# The rules by which a trial may pause at a rung.
PAUSING = ("promotion", "forest")


@dataclass(frozen=True)
class StartTrial:
    """Start a new trial with `hparams`; with those that the sampler proposes if None.

    `origin` says what proposes them.
    """

    hparams: Hparams | None = None
    origin: Origin | None = None


Pick = StartTrial | Trial | None


class StoppingRule(Protocol):
    """Decides at each rung about the trial that reached it, and what a free slot trains."""

    def levels(self, folds: int, epochs: int) -> tuple[int, ...]:
        """The rungs of a trial with `folds` folds of `epochs` epochs, in fold-epochs."""

    def decide(self, history: History, trial: Trial, may_start: bool) -> Decision:
        """Decide what happens to `trial`, which has just reached a rung."""

    def pick(self, history: History, may_start: bool) -> Pick:
        """Pick a paused trial, or a new one if `may_start`; None for neither."""

    def best_paused(self, history: History) -> Trial | None:
        """The paused trial that a slot trains which would be idle; None if no trial is paused."""


class NoStopping:
    """Every trial trains all its folds."""

    def __init__(self, space: Space) -> None:
        self._space = space

    def levels(self, folds: int, epochs: int) -> tuple[int, ...]:
        """The ends of the folds."""
        return tuple(fold_ends(epochs, folds))

    def decide(self, _history: History, _trial: Trial, _may_start: bool) -> Decision:
        """The trial continues."""
        return "continue"

    def pick(self, _history: History, may_start: bool) -> Pick:
        """A new trial, if one may start."""
        return StartTrial() if may_start else None

    def best_paused(self, _history: History) -> Trial | None:
        """None: no trial pauses."""
        return None


class Asha(NoStopping):
    """Stopping-type ASHA: a trial stops unless it is among the best 1/reduction_factor at a rung.

    The trial is compared with those that reached the rung before it.
    """

    def levels(self, folds: int, epochs: int) -> tuple[int, ...]:
        """Rungs in the first fold, spaced by the reduction factor, then the ends of the folds."""
        stopping = self._space.stopping
        return rung_levels(epochs, folds, stopping.grace_period, stopping.reduction_factor)

    def decide(self, history: History, trial: Trial, _may_start: bool) -> Decision:
        """The trial continues or stops."""
        space = self._space
        promotable = history.is_promotable(
            trial, trial.epoch, space.stopping.reduction_factor, space.mode
        )
        return "continue" if promotable else "stop"


class Promotion(Asha):
    """Promotion-type ASHA: a trial pauses at each rung until it is promoted.

    A trial is promotable if it is among the best 1/reduction_factor of all at its rung.
    """

    def decide(self, history: History, trial: Trial, _may_start: bool) -> Decision:
        """The trial continues if it is promotable, and pauses otherwise."""
        rung = history.rungs[trial.rung_key(trial.epoch)]
        space = self._space
        promotable = rung.among_best(trial.id, space.stopping.reduction_factor, space.mode)
        return "continue" if promotable else "pause"

    def pick(self, history: History, may_start: bool) -> Pick:
        """The best promotable trial of the highest rung, else a new trial.

        If there is neither, and no trial trains or has finished, the best of the highest rung.
        """
        space = self._space
        for level in _highest_first(history):
            trial = history.rungs[level].promotable(space.stopping.reduction_factor, space.mode)
            if trial is not None:
                return history.trials[trial]
        if may_start:
            return StartTrial()
        if any(trial.kind == "trial" for trial in history.running()) or history.done():
            return None
        return self.best_paused(history)

    def best_paused(self, history: History) -> Trial | None:
        """The best paused trial of the highest rung at which trials wait."""
        for level in _highest_first(history):
            best = history.rungs[level].best_waiting(self._space.mode)
            if best is not None:
                return history.trials[best]
        return None


def _highest_first(history: History) -> list[RungKey]:
    """The rungs from the end of a trial to its start."""
    return sorted(history.rungs, key=lambda level: -level.progress)
