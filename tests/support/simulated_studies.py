"""Whole studies decided by a search policy on simulated workers, without Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.report_interval import trial_epochs
from raysearch.config.samplers import SAMPLERS, RandomSampler
from raysearch.config.space import Budget, Hyperparameter, Rule, Space, Stopping
from raysearch.search.journal.events import (
    Event,
    FoldReport,
    StudyLaunched,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
)
from raysearch.search.journal.history import Trial
from raysearch.search.scheduling.policy import SearchPolicy
from raysearch.search.transfer.source_study import SourceStudy
from raysearch.search.transfer.study_memory import StudyMemory

SPACE = Space(
    hparams=(
        Hyperparameter("optimizer", "choice", ("adamw", "sgd")),
        Hyperparameter("momentum", "uniform", (0.5, 0.9), (("optimizer", ("sgd",)),)),
        Hyperparameter("learning_rate", "loguniform", (1e-4, 1e-1)),
        Hyperparameter("folds", "fixed", (3,)),
    ),
    metric="auroc",
    mode="max",
    epochs=6,
    trials=12,
    seed=0,
    stopping=Stopping(1, 3, "asha"),
    sampler=RandomSampler(),
)
RULES: tuple[Rule, ...] = ("asha", "promotion", "none")
NUM_SLOTS = 3


def quality(hparams: Hparams) -> float:
    """The final objective of a trial, without noise."""
    rate = float(hparams["learning_rate"])
    return float(0.9 - abs(np.log10(rate) + 2.5) / 10 - 0.05 * (hparams.get("optimizer") == "sgd"))


def policy_with(
    space: Space, sources: Sequence[SourceStudy], events: Iterable[Event] = ()
) -> SearchPolicy:
    """The search policy of a study that learns from `sources`."""
    memory = StudyMemory(space, sources) if sources else None
    return SearchPolicy(space, events, memory=memory)


class SimulatedStudy:
    """Runs a study on `NUM_SLOTS` workers, which lose trials, and whose launcher is killed.

    Args:
        space: The search space.
        seed: Seed of the order of reports, their noise and the failures.
        failure_rate: Probability of a failure before a report.
        objective: The final objective of a trial with these hyperparameters.
        sources: The earlier studies that the search learns from.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        failure_rate: float = 0.0,
        objective: Callable[[Hparams], float] = quality,
        sources: Sequence[SourceStudy] = (),
    ) -> None:
        self._sources = sources
        self.policy = policy_with(space, sources)
        self.events: list[Event] = []
        self._rng = np.random.default_rng(seed)
        self._failure_rate = failure_rate
        self._objective = objective
        self._running: list[Trial] = []
        self._lost: list[str] = []
        self._now = 0.0

    def run(self) -> list[Event]:
        """Run the study to its end, and return its events."""
        for _step in range(5000):
            while len(self._running) < NUM_SLOTS and (trial := self._next()) is not None:
                self._running.append(trial)
            if not self._running:
                return self.events
            self._step()
        pytest.fail("the study does not end")

    def _step(self) -> None:
        draw = self._rng.random()
        if draw < self._failure_rate / 3:  # the launcher is killed, and another one resumes
            self._lost += [trial.id for trial in self._running]
            self._running = []
            self.policy = policy_with(self.policy.space, self._sources, self.events)
            self._record(StudyLaunched("x", 1))
            return
        trial = self._running.pop(int(self._rng.integers(len(self._running))))
        if draw < self._failure_rate:
            self._lost.append(trial.id)
            return
        if draw > 1 - self._failure_rate / 4:
            self._record(TrialEnded(trial.id, "failed", "nan-loss"))
            return
        self._report(trial)
        if trial.status == "running":
            self._running.append(trial)

    def _report(self, trial: Trial) -> None:
        epoch, epochs = trial.epoch + 1, trial_epochs(self.policy.space, trial.hparams)
        value = self._objective(trial.hparams) + 0.02 * (epoch % epochs)
        value += self._rng.normal(0, 0.02)
        self._record(
            FoldReport(
                trial=trial.id,
                fold=(epoch - 1) // epochs,
                epoch=epoch,
                objective=value,
                metrics={"auroc": value},
                loss=None,
                seconds=1.0,
                rung=self.policy.is_rung(trial, epoch),
            )
        )
        decision = self.policy.decide(trial)
        if decision is not None:
            self._record(decision)
        if self.policy.exhausted() is not None:
            for unfinished in (*self.policy.history.running(), *self.policy.history.paused()):
                self._record(self.policy.end_unfinished(unfinished))
            self._running, self._lost = [], []

    def _next(self) -> Trial | None:
        if self._lost:
            return self.policy.history.trials[self._lost.pop(0)]
        event = self.policy.next()
        if event is None:
            return None
        self._record(event)
        return self.policy.history.trials[event.trial]

    def _record(self, event: Event) -> None:
        self._now += 1.0
        self.events.append(replace(event, number=len(self.events), time=self._now))
        self.policy.apply(self.events[-1])


def finished_policy(
    space: Space, seed: int, objective: Callable[[Hparams], float] = quality
) -> SearchPolicy:
    """The search policy at the end of a simulated study."""
    return SearchPolicy(space, SimulatedStudy(space, seed, objective=objective).run())


def repeated_decisions(
    space: Space, events: list[Event], sources: Sequence[SourceStudy] = ()
) -> Iterator[tuple[Event, Event | None]]:
    """Each decision in `events`, and that of a policy that knows only the events before it."""
    policy, is_exhausted = policy_with(space, sources), False
    for event in events:
        match event:
            case TrialStarted() | TrialPromoted():
                yield event, policy.next()
            case TrialPaused(name) | TrialEnded(name, "finished" | "stopped"):
                trial = policy.history.trials[name]
                is_exhausted = is_exhausted or policy.exhausted() is not None
                if not is_exhausted:  # an exhausted budget ends all trials, whatever they report
                    yield event, policy.decide(trial)
                elif trial.epoch < policy.total_fold_epochs(trial) and not trial.reports:
                    yield event, policy.end_unfinished(trial)
        policy.apply(event)


def varied_space(seed: int, rule: Rule, sampler: str) -> Space:
    """A space whose rungs, folds, epochs, budget and seed depend on `seed`."""
    rng = np.random.default_rng(seed)
    folds = (
        Hyperparameter("folds", "choice", (2, 3))
        if rng.random() < 0.3
        else Hyperparameter("folds", "fixed", (5,))
    )
    # Another generator, so that a seed has the same settings with and without the hyperparameter.
    has_several_epochs = np.random.default_rng((seed, 1)).random() < 0.4
    max_epochs = int(rng.integers(1, 8))
    choices = tuple(dict.fromkeys((max(1, max_epochs // 3), max(1, max_epochs // 2), max_epochs)))
    epochs = (Hyperparameter("epochs", "choice", choices),) if has_several_epochs else ()
    return replace(
        SPACE,
        hparams=(*SPACE.hparams[:-1], folds, *epochs),
        epochs=max_epochs,
        trials=int(rng.integers(1, 16)),
        seed=seed,
        mode="max" if rng.random() < 0.7 else "min",
        stopping=Stopping(1, int(rng.integers(2, 4)), rule, int(rng.integers(0, 5)), 0.1),
        sampler=SAMPLERS[sampler](),
        budget=Budget(
            fold_epochs=int(rng.integers(40, 200)) if rng.random() < 0.3 else None,
            no_improvement=4 if rng.random() < 0.2 else None,
        ),
    )


def check_repeated_decisions(space: Space, seed: int) -> int:
    """Check that the decisions of a study with failures are made again from its events.

    Returns:
        The number of decisions.
    """
    events = SimulatedStudy(space, seed, failure_rate=0.15).run()
    num_decisions = 0
    for event, decision in repeated_decisions(space, events):
        assert decision is not None, event
        assert replace(decision, number=event.number, time=event.time) == event
        num_decisions += 1
    reports = [(event.trial, event.epoch) for event in events if isinstance(event, FoldReport)]
    assert len(reports) == len(set(reports))
    started = [event.trial for event in events if isinstance(event, TrialStarted)]
    assert len(started) == len(set(started)) <= space.trials
    return num_decisions
