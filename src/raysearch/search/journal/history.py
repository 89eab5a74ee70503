"""What a study knows, told from its journal's events and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from raysearch.search.journal.journal import Event
from raysearch.search.journal.rungs import Mode, Rung
from raysearch.search.journal.trial_costs import fixed_costs, running_costs

Status = Literal["running", "paused", "finished", "stopped", "failed"]
Kind = Literal["trial", "benchmark", "majority"]
# The trial of that name is only reckoned, not trained.
MAJORITY = "majority"
BASELINES = ("benchmark", MAJORITY)


@dataclass
class Trial:
    """A trial as the journal tells it: its hyperparameters, its reports in order, and how it ended."""

    id: str
    kind: Kind
    hparams: Mapping[str, Any]
    seed: int
    folds: int
    started: float = 0.0
    reports: list[Event] = field(default_factory=list)
    status: Status = "running"
    reason: str = ""
    # How many searched trials had ended before it did.
    ended_as: int = -1

    @property
    def epoch(self) -> int:
        """The fold-epochs done."""
        return int(self.reports[-1]["epoch"]) if self.reports else 0

    @property
    def objective(self) -> float | None:
        """The objective after the last fold-epoch; None before the first, or if undefined."""
        return self.reports[-1]["objective"] if self.reports else None

    @property
    def pooled(self) -> float | None:
        """The objective of the scores of all folds at once; None but of a trial that finished.

        The worker reports it where a study has several numbers of folds, whose means are not of
        the same.
        """
        value = self.reports[-1].get("pooled") if self.reports else None
        return None if value is None else float(value)

    @property
    def final_objective(self) -> float:
        """What a finished trial is ranked by: the pooled objective where there is one."""
        return float(self.reports[-1]["objective"] if self.pooled is None else self.pooled)

    def fold_ends(self, epochs: int) -> list[Event]:
        """The last report of each finished fold, a fold having `epochs` epochs."""
        return [report for report in self.reports if report["epoch"] % epochs == 0]

    @property
    def seconds(self) -> float:
        """The time spent training."""
        return float(sum(report["seconds"] for report in self.reports))

    @property
    def costs(self) -> dict[str, float]:
        """What it cost beside its time, as far as its reports tell."""
        return {**fixed_costs(self.reports), **running_costs(self.reports)}


class Spent:
    """What a study has spent, told by its events: fold-epochs, and the time of its launches.

    `fold_epochs` are of the searched trials, `device_s` of the benchmark, too. `clock_s` counts
    while a launcher was there, by a clock that does not go back; `dollars` is what the machines'
    share cost that each report names.
    """

    def __init__(self) -> None:
        self.fold_epochs = 0
        self.device_s = 0.0
        self.clock_s = 0.0
        self.dollars = 0.0
        self._last: float | None = None

    def take(self, event: Event) -> None:
        """Take in the journal's next event."""
        if event["event"] == "launch" or self._last is None:
            self._last = event["at"]
        self.clock_s += max(0.0, event["at"] - self._last)
        self._last = event["at"]
        if event["event"] == "report":
            self.fold_epochs += event["trial"] not in BASELINES
            self.device_s += event["seconds"]
            self.dollars += event.get("dollars", 0.0)


class History:
    """The trials of a study and the values at its rungs, after each event of its journal."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.trials: dict[str, Trial] = {}
        # (folds, fold-epoch) -> the objectives of the trials that came there.
        self.rungs: dict[tuple[int, int], Rung] = {}
        # Every objective at a rung, in the order of the journal: trial, fold-epoch, value.
        self.at_rungs: list[tuple[Trial, int, float]] = []
        self.champion: str | None = None
        # What was locked with it: how it was selected, its temperature and its threshold.
        self.locked: Mapping[str, Any] = {}
        # Its objective with each fresh seed that did not fail.
        self.fresh: tuple[float, ...] = ()
        # Why the trainings with fresh seeds failed that did, by trial and seed.
        self.repeat_failures: dict[tuple[str, int], str] = {}
        self.spent = Spent()
        # What a later launch raised the planned number of trials to.
        self.extended: int | None = None
        self._searched: list[Trial] = []
        self._open: dict[str, Trial] = {}
        self._finished: list[Trial] = []
        # Of how many finished trials the best is known, and which it is, by folds and mode.
        self._best: dict[tuple[int | None, Mode], tuple[int, Trial | None]] = {}
        # How many searched trials ended.
        self.ended = 0
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> None:
        """Take in the journal's next event."""
        self.spent.take(event)
        match event["event"]:
            case "trial":
                self._begin(event)
            case "report":
                trial = self.trials[event["trial"]]
                trial.reports.append(event)
                if event["rung"]:
                    self._rung(trial).add(trial.id, event["objective"])
                    self.at_rungs.append((trial, event["epoch"], event["objective"]))
            case "pause":
                self._set(event, "paused")
                trial = self.trials[event["trial"]]
                self._rung(trial).wait(trial.id)
            case "promote":
                trial = self.trials[event["trial"]]
                self._rung(trial).leave(trial.id)
                self._set(event, "running")
            case "end":
                self._end(event)
            case "champion":
                self.champion, self.locked = event["trial"], event.get("locked", {})
                self.fresh = tuple(event.get("fresh", ()))
            case "again":
                self.repeat_failures[event["trial"], event["seed"]] = event["failure"]
            case "extend":
                self.extended = event["trials"]

    def planned(self, trials: int) -> int:
        """How many trials are planned, of a study that was launched with so many."""
        return self.extended or trials

    def searched(self) -> list[Trial]:
        """The searched trials, in the order in which they began."""
        return self._searched

    def running(self) -> list[Trial]:
        """Every trial, of any kind, that trains, or is to go on at once."""
        return [trial for trial in self._open.values() if trial.status == "running"]

    def paused(self) -> list[Trial]:
        """The trials that wait at a rung."""
        return [trial for trial in self._open.values() if trial.status == "paused"]

    def done(self) -> list[Trial]:
        """The searched trials that finished all their folds, in the order in which they did."""
        return self._finished

    def best(self, folds: int | None, mode: Mode) -> Trial | None:
        """The best finished trial, over `folds` folds where a number is given."""
        sign = 1.0 if mode == "max" else -1.0
        seen, best = self._best.get((folds, mode), (0, None))
        for one in self._finished[seen:]:
            fits = folds in (None, one.folds)
            if fits and (best is None or sign * one.final_objective > sign * best.final_objective):
                best = one
        self._best[folds, mode] = (len(self._finished), best)
        return best

    def is_promotable(self, trial: Trial, epoch: int, reduction: int, mode: Mode) -> bool:
        """Whether `trial` goes on from the rung at `epoch`, by those that were there before it."""
        return self.rungs[trial.folds, epoch].is_promotable(trial.id, reduction, mode)

    def _rung(self, trial: Trial) -> Rung:
        return self.rungs.setdefault((trial.folds, trial.epoch), Rung())

    def _begin(self, event: Event) -> None:
        known = {name: event[name] for name in ("kind", "hparams", "seed", "folds")}
        trial = Trial(event["trial"], started=event["at"], **known)
        self.trials[trial.id] = self._open[trial.id] = trial
        if trial.kind == "trial":
            self._searched.append(trial)

    def _end(self, event: Event) -> None:
        trial = self._open.pop(event["trial"])
        if trial.status == "paused":
            self._rung(trial).leave(trial.id)
        trial.status, trial.reason = event["status"], event["reason"]
        if trial.kind != "trial":
            return
        trial.ended_as = self.ended
        self.ended += 1
        if trial.status == "finished":
            self._finished.append(trial)

    def _set(self, event: Event, status: Status) -> None:
        self.trials[event["trial"]].status = status


def leaderboard(history: History, mode: str) -> list[Trial]:
    """Every trial that has a report or has failed: the finished first, the best first in each.

    A trial that was stopped later stands before one that was stopped earlier; the order among
    equals is that in which they began.
    """
    order = {"finished": 0, "running": 1, "paused": 1, "stopped": 2, "failed": 3}
    sign = -1.0 if mode == "max" else 1.0

    def rank(trial: Trial) -> tuple[int, int, float]:
        deeper = -trial.epoch if trial.status != "finished" else 0
        value = math.inf if trial.objective is None else sign * trial.final_objective
        return order[trial.status], deeper, value

    shown = (one for one in history.trials.values() if one.reports or one.status == "failed")
    return sorted(shown, key=rank)


def finished(history: History, mode: str) -> list[Trial]:
    """The searched trials that finished all their folds, the best first."""
    return [
        trial
        for trial in leaderboard(history, mode)
        if trial.kind == "trial" and trial.status == "finished"
    ]
