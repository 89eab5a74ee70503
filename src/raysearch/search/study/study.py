"""A study under way: what to run next, what a report leads to, and the journal of it all."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from raysearch.data.splits.folds import Fold, split_hash
from raysearch.errors import StudyError, UserError
from raysearch.search.journal.history import History, Kind, Trial
from raysearch.search.journal.journal import Event, Journal
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.scheduling.policy import SearchPolicy, end_of, trial_event
from raysearch.search.study.plan import Plan, Splits, load_plan

Listener = Callable[[Event], None]
MAX_UNAVAILABLE = 3


class Study:
    """The one writer of a study's journal; `launcher_lock` is held while it lives.

    What happens is appended to the journal first, then taken in by the course and the listeners, so
    that each of them can be made anew from the journal.
    """

    def __init__(self, folder: StudyFolder, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.journal = Journal(folder / folder.JOURNAL)
        self.policy = SearchPolicy(plan.space, self.journal.events)
        self.history = self.policy.history
        self.listeners: list[Listener] = []
        self.guard = threading.RLock()
        self.halted: str | None = None
        self._unable = 0
        self._kept_best = self._best()
        self._waiting = deque(one for one in self.history.running() if one.kind != "majority")

    def begin(self, trials: int | None = None) -> None:
        """Write down that a launcher began, and end what an earlier one left undecided.

        `trials` are planned from now on, where they are more than before.
        """
        self._happened({"event": "launch", "host": socket.gethostname(), "pid": os.getpid()})
        if trials is not None and trials > self.policy.trials:
            self._happened({"event": "extend", "trials": trials})
        self._remove_strays()
        for trial in list(self._waiting):
            if trial.reports:
                self._apply_decision(trial)
            if trial.status != "running":
                self._waiting.remove(trial)

    def next_trial(self) -> Trial | None:
        """The trial to run next, or None: one left over, the benchmark, then by the course."""
        with self.guard:
            if self.halted is not None:
                return None
            if self._waiting:
                return self._waiting.popleft()
            folds = self.plan.splits[0].folds
            if not any(trial.kind == "benchmark" for trial in self.history.trials.values()):
                hparams = {"architecture": "benchmark", "folds": folds}
                return self.start("benchmark", "benchmark", hparams)
            event = self.policy.next()
            if event is None:
                return None
            self._happened(event)
            return self.history.trials[event["trial"]]

    def start(self, trial: str, kind: Kind, hparams: Mapping[str, Any]) -> Trial:
        """Write down the new trial `trial`, and return it."""
        self._happened(trial_event(self.plan.space, trial, kind, hparams))
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
                rung = self.policy.is_rung(trial, report["epoch"])
                event = {"event": "report", "trial": trial_id, **report, "rung": rung}
                self._happened(event)
                self._apply_decision(trial)
            return trial.status == "running"

    def fail(self, trial_id: str, reason: str) -> None:
        """End a trial that cannot go on, with the reason in a few words."""
        self._end_running(trial_id, "failed", reason)

    def stop(self, trial_id: str, reason: str) -> None:
        """End a trial whose net is not wanted, with the reason in a few words."""
        self._end_running(trial_id, "stopped", reason)

    def _end_running(self, trial_id: str, status: str, reason: str) -> None:
        with self.guard:
            trial = self.history.trials[trial_id]
            if trial.status == "running" and (status == "failed" or trial.kind == "trial"):
                self._end(end_of(trial, status, reason))

    def requeue(self, trial_id: str, reason: str | None = None) -> None:
        """Let a trial that did not end go on later, from its checkpoint.

        `reason` says why its worker was unable to train it, through no error of the trial. After
        `MAX_UNAVAILABLE` such without a report between them the study is `halted` for that reason: its
        unfinished trials stay as they are, for a resume.
        """
        with self.guard:
            trial = self.history.trials[trial_id]
            if trial.status == "running" and trial not in self._waiting:
                self._waiting.append(trial)
            if reason is not None:
                self._unable += 1
                if self._unable >= MAX_UNAVAILABLE:
                    self.halted = reason

    def warn(self, trial_id: str, text: str) -> None:
        """Write down what the user should know of a trial that goes on all the same."""
        self._happened({"event": "warning", "trial": trial_id, "text": text})

    def record_repeat_failure(self, trial: Trial, seed: int, failure: str) -> None:
        """Write down that training `trial` with a fresh `seed` failed: it is not tried again."""
        event = {"event": "again", "trial": trial.id, "seed": seed, "failure": failure}
        self._happened(event)

    def crown(self, trial: Trial, locked: Mapping[str, Any], fresh: Sequence[float] = ()) -> None:
        """Write down that `trial` is the champion, and what is `locked` with it.

        `fresh` is the objective with each fresh seed.
        """
        event = {"event": "champion", "trial": trial.id, "locked": dict(locked)}
        self._happened({**event, "fresh": list(fresh)})

    def finalize(self) -> None:
        """End the trials that still wait, where nothing trains and none of them is to go on."""
        with self.guard:
            if self.halted is None and not self.history.running() and self.policy.next() is None:
                for trial in self.history.paused():
                    self._end(self.policy.last_of(trial))

    def ended(self) -> bool:
        """Whether every trial has ended, and none is to begin."""
        with self.guard:
            open_trials = (*self.history.running(), *self.history.paused())
            return not open_trials and self.policy.next() is None

    def whole(self, trial: Trial) -> int:
        """The fold-epochs after which `trial` is finished."""
        return self.policy.whole(trial)

    def _apply_decision(self, trial: Trial) -> None:
        """Do what follows from the last report of `trial`, for it and for the study."""
        event = self.policy.decision(trial)
        if event is not None and event["event"] == "end":
            self._end(event)
        elif event is not None:
            self._happened(event)
        if self.policy.over() is not None:
            for one in (*self.history.running(), *self.history.paused()):
                self._end(self.policy.last_of(one))

    def _end(self, event: Event) -> None:
        self._happened(event)
        ended, best = event["trial"], self._best()
        for trial in {ended, self._kept_best} - {best, None}:
            self.folder.remove(self.folder.checkpoint(trial))
        self._kept_best = best

    def _best(self) -> str | None:
        """The best finished trial, whose checkpoint is kept."""
        best = self.history.best(None, self.plan.space.mode)
        return best.id if best else None

    def _remove_strays(self) -> None:
        """Remove what a launcher or a worker that was killed had no time to remove."""
        folder = self.folder
        for place in ("", folder.JOURNAL, folder.CHECKPOINTS):
            folder.sweep(place)
        here = (*self.history.running(), *self.history.paused())
        kept = {f"{trial}.pt" for trial in (*(one.id for one in here), self._best())}
        for name in folder.names(folder.CHECKPOINTS):
            if name not in kept:
                folder.remove(f"{folder.CHECKPOINTS}/{name}")

    def _happened(self, event: Event) -> None:
        with self.guard:
            try:
                written = self.journal.append(event)
            except OSError as error:
                self.halted = (
                    f"{self.folder.path(self.folder.JOURNAL)}: cannot be written ({error})"
                )
                raise
            except UserError as error:  # another launcher's now, or its store is away
                self.halted = str(error)
                raise
            for stamped in written:
                self.policy.take(stamped)
                for listener in self.listeners:
                    listener(stamped)


def create_study(folder: StudyFolder, plan: Plan, splits: Splits) -> Study:
    """A new study in `folder`; StudyError where there is one already."""
    if folder.exists(folder.PLAN):
        raise StudyError(
            f"study {folder.name!r} exists already; go on with --resume, or choose another --name"
        )
    folder.write(folder.SPLITS, json.dumps(_told(splits)).encode())
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


def _told(splits: Splits) -> dict[str, list[list[Sequence[str]]]]:
    return {
        str(number): [[one.learn, one.judge] for one in folds] for number, folds in splits.items()
    }


def read_splits(folder: StudyFolder, plan: Plan) -> Splits:
    """The splits of the study in `folder`, by number of folds.

    StudyError where they are not those that `plan` was made with.
    """
    try:
        stored = json.loads(folder.read(folder.SPLITS))
        splits = {
            int(number): tuple(Fold(tuple(learn), tuple(judge)) for learn, judge in folds)
            for number, folds in stored.items()
        }
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
