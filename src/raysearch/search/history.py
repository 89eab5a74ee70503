"""What a study knows, told from its journal's events and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from raysearch.search.journal import Event
from raysearch.search.rungs import keeps_on

Status = Literal["running", "finished", "stopped", "failed"]
Kind = Literal["trial", "benchmark", "majority"]


@dataclass
class Trial:
    """A trial as the journal tells it: its knobs, its reports in order, and how it ended."""

    id: str
    kind: Kind
    knobs: Mapping[str, Any]
    seed: int
    folds: int
    started: float = 0.0
    reports: list[Event] = field(default_factory=list)
    status: Status = "running"
    reason: str = ""

    @property
    def epoch(self) -> int:
        """The fold-epochs done."""
        return int(self.reports[-1]["epoch"]) if self.reports else 0

    @property
    def objective(self) -> float | None:
        """The objective after the last fold-epoch; None before the first, or if undefined."""
        return self.reports[-1]["objective"] if self.reports else None

    def fold_ends(self, epochs: int) -> list[Event]:
        """The last report of each finished fold, a fold having `epochs` epochs."""
        return [report for report in self.reports if report["epoch"] % epochs == 0]

    @property
    def seconds(self) -> float:
        """The time spent training."""
        return float(sum(report["seconds"] for report in self.reports))


class History:
    """The trials of a study and the values at its rungs, after each event of its journal."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.trials: dict[str, Trial] = {}
        # (folds, fold-epoch) -> trial -> objective, in the order of the journal.
        self.rungs: dict[tuple[int, int], dict[str, float]] = {}
        self.champion: str | None = None
        self.launches = 0
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> None:
        """Take in the journal's next event."""
        match event["event"]:
            case "trial":
                names = ("kind", "knobs", "seed", "folds")
                known = {name: event[name] for name in names}
                self.trials[event["trial"]] = Trial(event["trial"], started=event["at"], **known)
            case "report":
                trial = self.trials[event["trial"]]
                trial.reports.append(event)
                if event["rung"]:
                    rung = self.rungs.setdefault((trial.folds, event["epoch"]), {})
                    rung[trial.id] = event["objective"]
            case "end":
                trial = self.trials[event["trial"]]
                trial.status, trial.reason = event["status"], event["reason"]
            case "champion":
                self.champion = event["trial"]
            case "launch":
                self.launches += 1

    def searched(self) -> list[Trial]:
        """The searched trials, in the order in which they began."""
        return [trial for trial in self.trials.values() if trial.kind == "trial"]

    def running(self) -> list[Trial]:
        """Every trial, of any kind, that has not ended."""
        return [trial for trial in self.trials.values() if trial.status == "running"]

    def goes_on(self, trial: Trial, epoch: int, value: float, reduction: int, mode: str) -> bool:
        """Whether `trial` goes on from the rung at `epoch`, by those that were there before it."""
        earlier = []
        for other, theirs in self.rungs.get((trial.folds, epoch), {}).items():
            if other == trial.id:
                break
            earlier.append(theirs)
        return keeps_on(earlier, value, reduction, mode)


def leaderboard(history: History, mode: str) -> list[Trial]:
    """Every trial that has a report or has failed: the finished first, the best first in each.

    A trial that was stopped later stands before one that was stopped earlier; the order among
    equals is that in which they began.
    """
    order = {"finished": 0, "running": 1, "stopped": 2, "failed": 3}
    sign = -1.0 if mode == "max" else 1.0

    def rank(trial: Trial) -> tuple[int, int, float]:
        deeper = -trial.epoch if trial.status != "finished" else 0
        value = math.inf if trial.objective is None else sign * trial.objective
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
