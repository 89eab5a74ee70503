"""A study under way: what to run next, what a report leads to, and the journal of it all."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from raysearch.data.folds import split_hash
from raysearch.errors import StudyError
from raysearch.search.folder import StudyFolder
from raysearch.search.history import History, Kind, Status, Trial
from raysearch.search.journal import Event, Journal
from raysearch.search.plan import Assignment, Plan, load_plan
from raysearch.search.sampler import Sampler
from raysearch.training.loop import key

Listener = Callable[[Event], None]
MOST_UNABLE = 3


class Study:
    """The one writer of a study's journal; `launcher_lock` is held while it lives.

    What happens is appended to the journal first, then taken in by the history, the sampler and
    the listeners, so that each of them can be made anew from the journal.
    """

    def __init__(self, folder: StudyFolder, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.journal = Journal(folder / folder.JOURNAL)
        self.history = History()
        self.listeners: list[Listener] = []
        self.guard = threading.RLock()
        self.halted: str | None = None
        self._unable = 0
        self._sampler = Sampler(plan.space, plan.space.seed)
        for event in self.journal.events:
            self.history.apply(event)
        for trial in self.history.searched():
            self._sampler.recall(trial)
        self._waiting = deque(trial for trial in self.history.running() if trial.kind != "majority")

    def begin(self) -> None:
        """Write down that a launcher began, and end what an earlier one left undecided."""
        self._happened({"event": "launch", "host": socket.gethostname(), "pid": os.getpid()})
        self._remove_strays()
        for trial in list(self._waiting):
            if trial.reports and not self._goes_on(trial):
                self._waiting.remove(trial)
                self._end(trial)

    def next_trial(self) -> Trial | None:
        """The trial to run next: one left unfinished, the benchmark, a new one, or None."""
        with self.guard:
            if self.halted is not None:
                return None
            if self._waiting:
                return self._waiting.popleft()
            folds = self.plan.splits[0].folds
            if not any(trial.kind == "benchmark" for trial in self.history.trials.values()):
                knobs = {"architecture": "benchmark", "folds": folds}
                return self.start("benchmark", "benchmark", knobs)
            number = len(self.history.searched())
            if number >= self.plan.space.trials:
                return None
            name = f"t{number:04d}"
            return self.start(name, "trial", self._sampler.propose(name))

    def start(self, trial: str, kind: Kind, knobs: Mapping[str, Any]) -> Trial:
        """Write down the new trial `trial`, and return it."""
        seed = key(self.plan.space.seed, trial)
        folds = int(knobs.get("folds", self.plan.splits[0].folds))
        self._happened(
            {
                "event": "trial",
                "trial": trial,
                "kind": kind,
                "knobs": dict(knobs),
                "seed": seed,
                "folds": folds,
            }
        )
        return self.history.trials[trial]

    def report(self, trial_id: str, report: Mapping[str, Any]) -> bool:
        """Take in the fold-epoch `report` of a trial; whether the trial goes on.

        A report that is known already, as after a retry from a checkpoint, changes nothing.
        """
        with self.guard:
            trial = self.history.trials[trial_id]
            if trial.status != "running" or self.halted is not None:
                return False
            self._unable = 0
            if report["epoch"] > trial.epoch:
                rungs = self.plan.split(trial.folds).rungs if trial.kind == "trial" else ()
                rung = report["epoch"] in rungs
                event = {"event": "report", "trial": trial_id, **report, "rung": rung}
                self._happened(event)
                if trial.kind == "trial":
                    self._sampler.report(trial_id, report["epoch"], report["objective"])
            if not self._goes_on(trial):
                self._end(trial)
            return trial.status == "running"

    def fail(self, trial_id: str, reason: str) -> None:
        """End a trial that cannot go on, with the reason in a few words."""
        with self.guard:
            trial = self.history.trials[trial_id]
            if trial.status == "running":
                self._end(trial, "failed", reason)

    def put_back(self, trial_id: str, reason: str | None = None) -> None:
        """Let a trial that did not end go on later, from its checkpoint.

        `reason` says why its worker was unable to train it, through no fault of the trial. After
        `MOST_UNABLE` such without a report between them the study is `halted` for that reason: its
        unfinished trials stay as they are, for a resume.
        """
        with self.guard:
            trial = self.history.trials[trial_id]
            if trial.status == "running" and trial not in self._waiting:
                self._waiting.append(trial)
            if reason is not None:
                self._unable += 1
                if self._unable >= MOST_UNABLE:
                    self.halted = reason

    def crown(self, trial: Trial) -> None:
        """Write down that `trial` is the champion."""
        self._happened({"event": "champion", "trial": trial.id})

    def ended(self) -> bool:
        """Whether every planned trial has ended."""
        with self.guard:
            return (
                len(self.history.searched()) >= self.plan.space.trials
                and not self.history.running()
            )

    def whole(self, trial: Trial) -> int:
        """The fold-epochs after which `trial` is finished."""
        return self.plan.whole(trial.folds)

    def _goes_on(self, trial: Trial) -> bool:
        if trial.epoch >= self.whole(trial):
            return False
        last = trial.reports[-1]
        if not last["rung"]:
            return True
        space = self.plan.space
        return self.history.goes_on(
            trial, last["epoch"], last["objective"], space.stopping.reduction, space.mode
        )

    def _end(self, trial: Trial, status: Status | None = None, reason: str = "") -> None:
        if status is None:
            finished = trial.epoch >= self.whole(trial)
            status = "finished" if finished else "stopped"
            reason = "all folds done" if finished else f"rung {trial.epoch}"
        self._happened({"event": "end", "trial": trial.id, "status": status, "reason": reason})
        if trial.kind == "trial":
            self._sampler.end(trial.id, status)
        self.folder.remove(self.folder.checkpoint(trial.id))

    def _remove_strays(self) -> None:
        """Remove what a launcher or a worker that was killed had no time to remove."""
        folder = self.folder
        for place in ("", folder.JOURNAL, folder.CHECKPOINTS):
            folder.sweep(place)
        kept = {f"{trial.id}.pt" for trial in self.history.running()}
        for name in self.folder.names(self.folder.CHECKPOINTS):
            if name not in kept:
                self.folder.remove(f"{self.folder.CHECKPOINTS}/{name}")

    def _happened(self, event: Event) -> None:
        with self.guard:
            try:
                written = self.journal.append(event)
            except OSError as fault:
                self.halted = (
                    f"{self.folder.path(self.folder.JOURNAL)}: cannot be written ({fault})"
                )
                raise
            for stamped in written:
                self.history.apply(stamped)
                for listener in self.listeners:
                    listener(stamped)


def create_study(folder: StudyFolder, plan: Plan, splits: Mapping[int, Assignment]) -> Study:
    """A new study in `folder`; StudyError where there is one already."""
    if folder.exists(folder.PLAN):
        raise StudyError(
            f"study {folder.name!r} exists already; go on with --resume, or choose another --name"
        )
    folder.write(folder.SPLITS, json.dumps({str(k): v for k, v in splits.items()}).encode())
    folder.write(folder.PLAN, plan.dump())
    return Study(folder, plan)


def read_plan(folder: StudyFolder) -> Plan:
    """The plan of the study in `folder`; StudyError where there is none."""
    if not folder.exists(folder.PLAN):
        raise StudyError(
            f"no study {folder.name!r} in {folder.address}; `raysearch results` lists them"
        )
    try:
        return load_plan(folder.read(folder.PLAN))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StudyError(
            f"{folder.path(folder.PLAN)}: damaged; restore it from a copy or start a new study"
        ) from None


def read_splits(folder: StudyFolder, plan: Plan) -> dict[int, Assignment]:
    """The splits of the study in `folder`, patient to fold, by number of folds.

    StudyError where they are not those that `plan` was made with.
    """
    try:
        stored: dict[str, Assignment] = json.loads(folder.read(folder.SPLITS))
        splits = {int(folds): assignment for folds, assignment in stored.items()}
        whole = all(split_hash(splits[one.folds]) == one.hash for one in plan.splits)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        whole = False
    if not whole:
        raise StudyError(
            f"{folder.path(folder.SPLITS)}: missing or not the plan's; restore it from a copy or"
            " start a new study"
        )
    return splits


def read_history(folder: StudyFolder) -> History:
    """What the journal of the study in `folder` tells, without taking part in it."""
    return History(Journal(folder / folder.JOURNAL).events)
