"""Raysearch's own search on the simulated clock: the decisions of `raysearch.search`.

Its runs are never kept.
"""

from __future__ import annotations

from dataclasses import replace

from raysearch.config.space import Budget, Hyperparameter, Kind, Space, Stopping
from raysearch.search.journal.journal import Event
from raysearch.search.scheduling.policy import SearchPolicy
from replay.clock import Work
from replay.curves import EPOCHS, Ranges

TRIALS = 10**6
KINDS: dict[tuple[str, bool], Kind] = {
    ("int", False): "int",
    ("int", True): "logint",
    ("float", False): "uniform",
    ("float", True): "loguniform",
}


def space(ranges: Ranges, seed: int, trials: int = TRIALS) -> Space:
    """The search space of lcbench in the house's words, all else as a study has it by default."""
    hparams = (
        Hyperparameter(name, KINDS[kind, log], (low, high))
        for name, (kind, low, high, log) in ranges.items()
    )
    stopping = Stopping(grace=round(EPOCHS / 10))
    return Space(tuple(hparams), "accuracy", "max", EPOCHS, trials, seed, stopping)


class Raysearch:
    """A study's course, told what happens on the simulated clock.

    A curve is that of `folds` folds, one after the other.
    """

    def __init__(self, asked: Space, folds: int = 1) -> None:
        self._course, self._folds = SearchPolicy(asked), folds

    def next(self) -> Work | None:
        event = self._course.next()
        if event is None:
            return None
        self._happened({**event, "folds": self._folds})
        trial = self._course.history.trials[event["trial"]]
        return Work(trial.id, dict(trial.hparams), trial.epoch)

    def report(self, trial: str, epoch: int, value: float, seconds: float) -> bool:
        policy = self._course
        known = policy.history.trials[trial]
        self._happened(
            {
                "event": "report",
                "trial": trial,
                "epoch": epoch,
                "fold": (epoch - 1) // policy.space.epochs,
                "objective": value,
                "metrics": {policy.space.metric: value},
                "seconds": seconds,
                "rung": policy.is_rung(known, epoch),
            }
        )
        decision = policy.decision(known)
        if decision is not None:
            self._happened(decision)
        return decision is None

    def _happened(self, event: Event) -> None:
        self._course.take({"at": 0.0, **event})


class Budgeted(Raysearch):
    """A study as `asked`, of `folds` folds a trial, that may spend so many fold-epochs."""

    def __init__(self, asked: Space, folds: int, fold_epochs: int) -> None:
        # The hyperparameter is there for one fold, too, so that all draw the same.
        hparams = (*asked.hparams, Hyperparameter("folds", "fixed", (folds,)))
        super().__init__(
            replace(asked, hparams=hparams, budget=Budget(fold_epochs=fold_epochs)), folds
        )

    def report(self, trial: str, epoch: int, value: float, seconds: float) -> bool:
        """As in any study, but whoever trains when the budget is spent ends there."""
        return super().report(trial, epoch, value, seconds) and self._course.over() is None

    @property
    def champion(self) -> dict[str, int | float]:
        """The best configuration that finished."""
        best = self._course.history.best(None, "max")
        assert best is not None, "a budget leaves room for one trial"
        return dict(best.hparams)


def method(ranges: Ranges, seed: int) -> Raysearch:
    return Raysearch(space(ranges, seed))
