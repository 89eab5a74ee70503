"""Whole studies decided by a search policy on a virtual clock, whose slots may idle."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.space import Space
from raysearch.search.journal.events import Event, FoldReport, StudyLaunched
from raysearch.search.journal.history import Trial
from raysearch.search.scheduling.policy import SearchPolicy
from support.simulated_studies import quality


@dataclass(frozen=True)
class IdleTime:
    """A part of the clock in which slots idle although trials are paused.

    Args:
        start: Its start.
        seconds: Its length.
        num_idle: The slots that idle.
        num_needed: The training trials for which the study goes on.
        num_left: The fold-epochs that the budget leaves; None without such a budget.
    """

    start: float
    seconds: float
    num_idle: int
    num_needed: int
    num_left: int | None


@dataclass
class ClockedStudy:
    """Runs a study on `slots` workers; a fold-epoch of a trial takes `seconds_of` it.

    Attributes:
        events: The events so far; their times are those of the clock.
        idle_times: When slots idled although trials were paused.
        policy: The policy that decides.
        now: The clock.
    """

    space: Space
    slots: int
    seconds_of: Callable[[Trial], float]
    objective: Callable[[Hparams], float] = quality
    noise: float = 0.02
    seed: int = 0
    events: list[Event] = field(default_factory=list)
    idle_times: list[IdleTime] = field(default_factory=list)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.policy = SearchPolicy(self.space)
        self._rng = np.random.default_rng(self.seed)
        # The end of the fold-epoch of each training trial, and the trial.
        self._training: list[tuple[float, str]] = []
        self.record(StudyLaunched("x", 1))

    def run(self) -> ClockedStudy:
        """Run the study to its end, and return it."""
        while self.step():
            pass
        return self

    def step(self) -> bool:
        """Give each free slot a trial, and go on to the next report; return False at the end."""
        while len(self._training) < self.slots and (event := self.policy.next()) is not None:
            self.record(event)
            self._train(self.policy.history.trials[event.trial])
        if not self._training:
            return False
        self._note_idle_time()
        self.now, name = heapq.heappop(self._training)
        trial = self.policy.history.trials[name]
        if trial.status == "running":
            self._report(trial)
            if trial.status == "running":
                self._train(trial)
        return True

    def record(self, event: Event) -> None:
        """Append an event, and apply it."""
        self.events.append(replace(event, number=len(self.events), time=self.now))
        self.policy.apply(self.events[-1])

    def _train(self, trial: Trial) -> None:
        heapq.heappush(self._training, (self.now + self.seconds_of(trial), trial.id))

    def _report(self, trial: Trial) -> None:
        epoch, epochs = trial.epoch + 1, self.space.epochs
        value = self.objective(trial.hparams) + 0.02 * (epoch % epochs) / epochs
        value += float(self._rng.normal(0, self.noise))
        self.record(
            FoldReport(
                trial=trial.id,
                fold=(epoch - 1) // epochs,
                epoch=epoch,
                objective=value,
                metrics={self.space.metric: value},
                loss=None,
                seconds=self.seconds_of(trial),
                rung=self.policy.is_rung(trial, epoch),
            )
        )
        decision = self.policy.decide(trial)
        if decision is not None:
            self.record(decision)
        if self.policy.exhausted() is not None:
            for unfinished in (*self.policy.history.running(), *self.policy.history.paused()):
                self.record(self.policy.end_unfinished(unfinished))

    def _note_idle_time(self) -> None:
        history, budget = self.policy.history, self.space.budget.fold_epochs
        num_idle = self.slots - len(self._training)
        if num_idle and history.paused():
            self.idle_times.append(
                IdleTime(
                    start=self.now,
                    seconds=self._training[0][0] - self.now,
                    num_idle=num_idle,
                    num_needed=sum(not trial.in_idle_slot for trial in history.running()),
                    num_left=None if budget is None else budget - history.spent.fold_epochs,
                )
            )
