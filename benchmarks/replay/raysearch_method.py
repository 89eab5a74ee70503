"""Raysearch's own search on the simulated clock: the decisions of `raysearch.search`.

Its runs are not cached.
"""

from __future__ import annotations

from dataclasses import replace

from raysearch.config.space import Budget, Hyperparameter, Kind, Space, Stopping
from raysearch.search.journal.events import FoldReport, TrialStarted
from raysearch.search.journal.history import History
from raysearch.search.scheduling.policy import SearchPolicy
from raysearch.search.scheduling.stopping_rules import NoStopping
from raysearch.search.transfer.study_memory import StudyMemory
from replay.clock import Config, Work
from replay.curves import EPOCHS, Ranges

NUM_TRIALS = 10**6
KINDS: dict[tuple[str, bool], Kind] = {
    ("int", False): "int",
    ("int", True): "logint",
    ("float", False): "uniform",
    ("float", True): "loguniform",
}


def space(ranges: Ranges, seed: int, trials: int = NUM_TRIALS) -> Space:
    """The search space of lcbench, with the default settings of a study."""
    hparams = (
        Hyperparameter(name, KINDS[kind, log], (low, high))
        for name, (kind, low, high, log) in ranges.items()
    )
    stopping = Stopping(grace_period=round(EPOCHS / 10))
    return Space(tuple(hparams), "accuracy", "max", EPOCHS, trials, seed, stopping)


class Raysearch:
    """A study's search policy on the simulated clock.

    Args:
        searched: The search space.
        folds: Number of folds of a curve, one after the other.
        rule_type: The early-stopping rule; by default that of the space.
        memory: The models of earlier studies; None without any.
    """

    def __init__(
        self,
        searched: Space,
        folds: int = 1,
        rule_type: type[NoStopping] | None = None,
        memory: StudyMemory | None = None,
    ) -> None:
        rule = rule_type(searched) if rule_type else None
        self._policy, self._folds = SearchPolicy(searched, rule=rule, memory=memory), folds

    def next(self) -> Work | None:
        event = self._policy.next()
        if event is None:
            return None
        if isinstance(event, TrialStarted):
            event = replace(event, folds=self._folds)
        self._policy.apply(event)
        trial = self._policy.history.trials[event.trial]
        return Work(trial.id, dict(trial.hparams), trial.epoch)

    def report(self, trial: str, epoch: int, value: float, seconds: float) -> bool:
        policy = self._policy
        reporting = policy.history.trials[trial]
        policy.apply(
            FoldReport(
                trial=trial,
                fold=(epoch - 1) // policy.space.epochs,
                epoch=epoch,
                objective=value,
                metrics={policy.space.metric: value},
                loss=None,
                seconds=seconds,
                rung=policy.is_rung(reporting, epoch),
            )
        )
        decision = policy.decide(reporting)
        if decision is not None:
            policy.apply(decision)
        return decision is None

    @property
    def history(self) -> History:
        """The trials so far."""
        return self._policy.history

    @property
    def champion(self) -> Config:
        """The best configuration of the finished trials."""
        best = self._policy.history.best(None, "max")
        assert best is not None, "a budget suffices for one trial"
        return dict(best.hparams)

    @property
    def fold_epochs(self) -> int:
        """The fold-epochs of all trials."""
        return self._policy.history.spent.fold_epochs


class Budgeted(Raysearch):
    """A study of `searched` with `folds` folds per trial and a budget of fold-epochs."""

    def __init__(
        self,
        searched: Space,
        folds: int,
        fold_epochs: int,
        rule_type: type[NoStopping] | None = None,
    ) -> None:
        # One fold is a hyperparameter, too, so that all studies draw the same proposals.
        hparams = (*searched.hparams, Hyperparameter("folds", "fixed", (folds,)))
        budget = Budget(fold_epochs=fold_epochs)
        super().__init__(replace(searched, hparams=hparams, budget=budget), folds, rule_type)

    def report(self, trial: str, epoch: int, value: float, seconds: float) -> bool:
        """Report as in any study; a spent budget ends the trials that train."""
        continues = super().report(trial, epoch, value, seconds)
        return continues and self._policy.exhausted() is None


def method(ranges: Ranges, seed: int) -> Raysearch:
    return Raysearch(space(ranges, seed))
