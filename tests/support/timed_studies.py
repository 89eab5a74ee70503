"""Whole studies with times, decided by a search policy on simulated slots, without Ray."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np

from raysearch.config.space import Space
from raysearch.search.journal.events import (
    Event,
    FoldReport,
    RefitTrained,
    RepeatTrained,
    StudyLaunched,
)
from raysearch.search.journal.history import History, Trial
from raysearch.search.scheduling.policy import SearchPolicy, trial_started

OVERHEAD_S, REGISTRATION_S = 0.3, 12.0
START = 1_000_000.0
AtTime = Callable[[History, float], float | None]


@dataclass
class TimedStudy:
    """A study on `num_slots` slots, whose fold-epochs take `seconds` by architecture.

    Args:
        space: The search space, with the hyperparameter `architecture`.
        seconds: The mean seconds of a fold-epoch by architecture, with that of `benchmark`.
        num_slots: The number of slots.
        seed: The seed of the objectives and of the noise of times.
        quality: What an architecture adds to the objective.
    """

    space: Space
    seconds: Mapping[str, float]
    num_slots: int = 2
    seed: int = 0
    quality: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._policy = SearchPolicy(self.space)
        self._rng = np.random.default_rng(self.seed)
        self.events: list[Event] = []
        self._now = START

    def run(self) -> list[Event]:
        """Run the study, and return its events with their times."""
        self._record(StudyLaunched("here", 1))
        hparams = {"architecture": "benchmark"}
        self._record(trial_started(self.space, "benchmark", "benchmark", hparams))
        running: list[tuple[float, int, str, float]] = []
        numbers = count()

        def train(name: str) -> None:
            seconds = self._seconds(self._policy.history.trials[name])
            end = self._now + seconds + OVERHEAD_S
            heapq.heappush(running, (end, next(numbers), name, seconds))

        train("benchmark")
        while True:
            while len(running) < self.num_slots and (event := self._policy.next()) is not None:
                self._record(event)
                train(event.trial)
            if not running:
                break
            self._now, _number, name, seconds = heapq.heappop(running)
            trial = self._policy.history.trials[name]
            self._report(trial, seconds)
            decision = self._policy.decide(trial)
            if decision is None:
                train(name)
            else:
                self._record(decision)
        for trial in list(self._policy.history.paused()):
            self._record(self._policy.end_unfinished(trial))
        self._retrain()
        return self.events

    @property
    def end(self) -> float:
        """When the study ended."""
        return self._now

    def _retrain(self) -> None:
        best = self._policy.history.best(None, self.space.mode)
        assert best is not None
        epoch_s = best.seconds / len(best.reports)
        self._now += 2 + epoch_s * self.space.epochs * best.folds / (best.folds - 1) / 2**0.5
        self._record(RefitTrained(best.id, "0"))
        self._now += REGISTRATION_S - 2
        folds = [(seed, fold) for seed in range(self.space.repeats) for fold in range(best.folds)]
        while folds:
            self._now += epoch_s * self.space.epochs + OVERHEAD_S
            for seed, fold in folds[: self.num_slots]:
                self._record(RepeatTrained(best.id, seed, fold, "0"))
            folds = folds[self.num_slots :]
        self._now += 3

    def _seconds(self, trial: Trial) -> float:
        name = str(trial.hparams["architecture"])
        size = np.random.default_rng(trial.seed).uniform(0.7, 1.3)
        return float(self.seconds[name] * size * self._rng.uniform(0.9, 1.1))

    def _report(self, trial: Trial, seconds: float) -> None:
        epoch, epochs = trial.epoch + 1, self.space.epochs
        fraction = ((epoch - 1) % epochs + 1) / epochs
        final = np.random.default_rng([self.seed, trial.seed]).normal()
        final += self.quality.get(str(trial.hparams["architecture"]), 0.0)
        value = float(final * (1 - np.exp(-3 * fraction)) + self._rng.normal(0, 0.2))
        self._record(
            FoldReport(
                trial=trial.id,
                fold=(epoch - 1) // epochs,
                epoch=epoch,
                objective=value,
                metrics={self.space.metric: value},
                loss=None,
                seconds=seconds,
                rung=self._policy.is_rung(trial, epoch),
            )
        )

    def _record(self, event: Event) -> None:
        self.events.append(replace(event, number=len(self.events), time=self._now))
        self._policy.apply(self.events[-1])
