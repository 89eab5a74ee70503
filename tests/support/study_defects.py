"""Counts what a disturbed study has lost, has twice, has wrong or has left behind."""

from __future__ import annotations

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

import torch

from raysearch.data.file_access import PARTIAL_FILE
from raysearch.errors import StudyError
from raysearch.search.journal.events import (
    Event,
    FoldReport,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialsExtended,
    TrialStarted,
)
from raysearch.search.journal.history import History, Trial
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.scheduling.policy import SearchPolicy
from raysearch.search.study.plan import Plan
from raysearch.search.study.stored_study import load_study
from raysearch.search.study.trial_data import WORKER_CACHE, train_config
from raysearch.training.failures import TrainingFailedError
from raysearch.training.loop import FoldEpoch, train
from support.disturbed_launches import command_lines, reports

DefectKind = Literal["lost", "twice", "wrong", "left behind"]
RUN_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
# Ray's agents end by themselves, some time after a node that was killed.
MAX_WAIT_S = 180.0


@dataclass
class Defects:
    """Defects by their kind, each with a line that says what it is.

    Args:
        on_defect: Called with the kind and the line of each.
    """

    on_defect: Callable[[DefectKind, str], None] = lambda _kind, _text: None
    found: dict[DefectKind, list[str]] = field(
        default_factory=lambda: {kind: [] for kind in get_args(DefectKind)}
    )

    def add(self, kind: DefectKind, text: str) -> None:
        self.found[kind].append(text)
        self.on_defect(kind, text)

    def add_all(self, kind: DefectKind, texts: Iterable[str]) -> None:
        for text in texts:
            self.add(kind, text)

    @property
    def total(self) -> int:
        return sum(map(len, self.found.values()))

    def counts(self) -> str:
        return ", ".join(f"{len(texts)} {kind}" for kind, texts in self.found.items())


def count_journal(defects: Defects, plan: Plan, events: Sequence[Event]) -> None:
    """Count trials, fold-epochs and ends that are missing or repeated, and failed trials."""
    starts = Counter(event.trial for event in events if isinstance(event, TrialStarted))
    ends = Counter(event.trial for event in events if isinstance(event, TrialEnded))
    epochs = Counter((report.trial, report.epoch) for report in reports(events))
    planned = (f"t{number:04d}" for number in range(num_planned(plan, events)))
    names = {*planned, "benchmark", "majority"}
    defects.add_all("lost", (f"trial {name}" for name in sorted(names - starts.keys())))
    defects.add_all("wrong", (f"trial {name} is not planned" for name in starts.keys() - names))
    for what, counted in (("the start of", starts), ("the end of", ends)):
        defects.add_all("twice", (f"{what} {name}" for name, count in counted.items() if count > 1))
    defects.add_all("lost", (f"the end of {name}" for name in sorted(starts.keys() - ends.keys())))
    defects.add_all("twice", (f"fold-epoch {key}" for key, count in epochs.items() if count > 1))
    try:
        history = History(events)
    except StudyError as error:
        defects.add("wrong", str(error))
        return
    for trial in history.searched():
        missing = set(range(1, trial.epoch + 1)) - {report.epoch for report in trial.reports}
        defects.add_all("lost", (f"fold-epoch {epoch} of {trial.id}" for epoch in sorted(missing)))
        if trial.status == "failed":
            defects.add("wrong", f"{trial.id} failed: {trial.reason}")
        if trial.status == "finished" and trial.epoch != plan.total_fold_epochs(trial.folds):
            defects.add("wrong", f"{trial.id} finished after {trial.epoch} fold-epochs")
    if history.champion is None:
        defects.add("lost", "the champion")
    for before, after in pairwise(events):
        if after.time < before.time:
            defects.add("wrong", f"event {after.number} is earlier than the one before it")


def count_lost_events(defects: Defects, before: Sequence[Event], events: Sequence[Event]) -> None:
    """Count events that the journal had and has no more."""
    kept = sum(old == new for old, new in zip(before, events, strict=False))
    defects.add_all("lost", ["an event of the journal"] * (len(before) - kept))


def count_decisions(defects: Defects, plan: Plan, events: Sequence[Event]) -> int:
    """Repeat each decision from the events before it, count the different ones; return all."""
    policy, num_decisions = SearchPolicy(plan.space), 0
    for event in events:
        decision: Event | None = None
        match event:
            case TrialPromoted() | TrialStarted(kind="trial"):
                decision = policy.next()
            case TrialPaused(name):
                decision = policy.decide(policy.history.trials[name])
            case TrialEnded(name, status) if status != "failed":
                trial = policy.history.trials[name]
                is_paused = trial.status == "paused"
                decision = None if is_paused or trial.kind == "majority" else policy.decide(trial)
                if trial.kind != "majority":
                    decision = decision or policy.end_unfinished(trial)
            case FoldReport(rung=is_rung):
                trial = policy.history.trials[event.trial]
                if is_rung != policy.is_rung(trial, event.epoch):
                    defects.add("wrong", f"event {event.number}: rung {is_rung}")
            case _:
                pass
        if decision is not None:
            num_decisions += 1
            if replace(decision, number=event.number, time=event.time) != event:
                defects.add("wrong", f"event {event.number} is {event}, expected {decision}")
        policy.apply(event)
    return num_decisions


def retrain(folder: StudyFolder, plan: Plan, trial: Trial) -> list[FoldEpoch]:
    """Train `trial` here, undisturbed, for as many fold-epochs as it has."""

    class _EnoughError(Exception):
        pass

    fold_epochs: list[FoldEpoch] = []

    def report(fold_epoch: FoldEpoch, *_state: object) -> None:
        fold_epochs.append(fold_epoch)
        if len(fold_epochs) == trial.epoch:
            raise _EnoughError

    torch.set_num_threads(max(1, int(plan.space.resources.cpus)))
    rows = WORKER_CACHE.training_data(folder.address, plan.data, "cpu", trial.folds, 1.0)
    config = train_config(plan, trial.hparams, trial.seed, torch.device("cpu"))
    with suppress(_EnoughError, TrainingFailedError):
        train(config, rows, report)
    return fold_epochs


def count_training(defects: Defects, folder: StudyFolder, trials: Iterable[Trial]) -> None:
    """Train trials again, and count fold-epochs that differ in any number, to the last bit."""
    plan = load_study(folder).plan
    for trial in trials:
        expected = retrain(folder, plan, trial)
        recorded = [_numbers(report) for report in trial.reports]
        for number, fold_epoch in enumerate(expected):
            if number >= len(recorded) or recorded[number] != _numbers(fold_epoch):
                defects.add("wrong", f"{trial.id}: fold-epoch {number + 1} has other numbers")
        if len(expected) != len(recorded):
            defects.add("wrong", f"{trial.id}: {len(recorded)} fold-epochs, not {len(expected)}")


def _numbers(fold_epoch: FoldReport | FoldEpoch) -> tuple[object, ...]:
    """What a training computes; a checkpoint and the journal keep all of it."""
    metrics = tuple(sorted(fold_epoch.metrics.items()))
    return fold_epoch.epoch, fold_epoch.fold, fold_epoch.objective, fold_epoch.loss, metrics


def count_differences(defects: Defects, expected: History, history: History) -> None:
    """Compare a disturbed study with the undisturbed one, trial by trial, to the last bit."""
    for name in expected.trials.keys() | history.trials.keys():
        trials = [snapshot.trials.get(name) for snapshot in (expected, history)]
        before, after = (None if trial is None else _result(trial) for trial in trials)
        if before is None or after is None:
            defects.add("lost" if after is None else "wrong", f"trial {name}")
        elif before != after:
            defects.add("wrong", f"{name} is {after}, undisturbed {before}")
    if history.champion != expected.champion:
        defects.add("wrong", f"champion {history.champion}, undisturbed {expected.champion}")
    decision, other = history.champion_decision, expected.champion_decision
    if decision != other:
        defects.add("wrong", f"decision rule {decision}, undisturbed {other}")


def _result(trial: Trial) -> tuple[object, ...]:
    numbers = [(*_numbers(report), report.rung) for report in trial.reports]
    return (dict(trial.hparams), trial.seed, trial.folds, trial.status, trial.reason, numbers)


Point = tuple[str, int, float]


def count_store(defects: Defects, database: Path, plan: Plan, history: History) -> int:
    """Compare MLflow's database with the journal: each run and point once; return the points."""
    store = f"file:{database}?mode=ro"
    with closing(sqlite3.connect(store, uri=True)) as connection:
        runs = _runs_by_trial(connection, plan)
        for name, of_trial in runs.items():
            if len(of_trial) > 1:
                defects.add_all("twice", [f"the run of {name}"] * (len(of_trial) - 1))
            for run, status in of_trial.items():
                if status == "RUNNING":
                    defects.add("wrong", f"run {run} of {name} is still RUNNING")
        num_points = 0
        for trial in (*history.trials.values(),):
            if trial.id not in runs:
                defects.add("lost", f"the run of {trial.id}")
                continue
            run, status = next(iter(runs[trial.id].items()))
            if status not in (RUN_STATUS.get(trial.status), "RUNNING"):
                defects.add("wrong", f"the run of {trial.id} is {status}, not {trial.status}")
            num_points += _count_points(defects, connection, run, trial, plan.space.epochs)
    defects.add_all(
        "wrong", (f"run of {name}" for name in runs.keys() - history.trials.keys() - {"study"})
    )
    if "study" not in runs:
        defects.add("lost", "the parent run")
    return num_points


def _runs_by_trial(connection: sqlite3.Connection, plan: Plan) -> dict[str, dict[str, str]]:
    """The ids and the states of a study's runs that are not deleted, by trial."""
    query = """
        SELECT trial.value, runs.run_uuid, runs.status FROM runs
        JOIN tags AS trial ON trial.run_uuid = runs.run_uuid AND trial.key = 'raysearch.trial'
        JOIN tags AS study ON study.run_uuid = runs.run_uuid AND study.key = 'study'
        WHERE runs.lifecycle_stage = 'active' AND study.value = ?
    """
    runs: dict[str, dict[str, str]] = {}
    for trial, run, status in connection.execute(query, (plan.name,)):
        runs.setdefault(trial, {})[run] = status
    return runs


def _count_points(
    defects: Defects, connection: sqlite3.Connection, run: str, trial: Trial, epochs: int
) -> int:
    query = "SELECT key, step, value FROM metrics WHERE run_uuid = ?"
    stored: list[Point] = [
        (key, step, value) for key, step, value in connection.execute(query, (run,))
    ]
    places = Counter((key, step) for key, step, _value in stored)
    for place, count in places.items():
        defects.add_all("twice", [f"point {place} of {trial.id}"] * (count - 1))
    values = {(key, step): value for key, step, value in stored}
    for (key, step), value in _expected_points(trial, epochs).items():
        if (key, step) not in values:
            defects.add("lost", f"point {key} {step} of {trial.id}")
        elif values[key, step] != value:
            defects.add("wrong", f"point {key} {step} of {trial.id} is {values[key, step]}")
    return len(stored)


def _expected_points(trial: Trial, epochs: int) -> Mapping[tuple[str, int], float]:
    points: dict[tuple[str, int], float | None] = {}
    for report in trial.reports:
        points["objective", report.epoch] = report.objective
        points["train_loss", report.epoch] = report.loss
        for name, value in (report.train_metrics or {}).items():
            points[f"train_{name}", report.epoch] = value
        for name, value in report.metrics.items():
            points[f"fold_{report.fold}/{name}", report.epoch - report.fold * epochs] = value
    return {place: value for place, value in points.items() if value is not None}


def running_runs(database: Path, study: str) -> list[str]:
    """The names of the study's runs that are RUNNING in MLflow's database."""
    query = """
        SELECT runs.name FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid
        WHERE tags.key = 'study' AND tags.value = ?
        AND runs.status = 'RUNNING' AND runs.lifecycle_stage = 'active'
    """
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return [name for (name,) in connection.execute(query, (study,))]


class Surroundings:
    """The temporary files that exist before the first launch, and what is left after the last.

    It is for a program that runs isolated: other programs would be counted.
    """

    FOLDERS = (Path("/tmp"), Path("/tmp/ray"), Path("/dev/shm"))

    def __init__(self) -> None:
        self._files = self._now()

    def _now(self) -> set[Path]:
        folders = (folder for folder in self.FOLDERS if folder.is_dir())
        return {path for folder in folders for path in folder.iterdir()} - {*self.FOLDERS}

    def count_left(self, defects: Defects, sessions: set[int], folders: Iterable[Path]) -> float:
        """Count what is left when no launch runs; return the seconds until its last process ended.

        Args:
            defects: Where it is counted.
            sessions: The sessions of processes that no launch started.
            folders: Folders in which no partial file may be.
        """
        start = time.monotonic()
        while (left := _processes_outside(sessions)) and time.monotonic() < start + MAX_WAIT_S:
            time.sleep(0.5)
        seconds = time.monotonic() - start
        for pid, line in left.items():
            defects.add("left behind", f"process {pid}: {line[:120]}")
        defects.add_all("left behind", map(str, sorted(self._now() - self._files)))
        for folder in folders:
            for path in sorted(folder.rglob(".*")):
                if PARTIAL_FILE.fullmatch(path.name):
                    defects.add("left behind", str(path))
        return seconds


def _processes_outside(sessions: set[int]) -> dict[int, str]:
    """The command lines of the processes that are not in `sessions`."""
    left = {}
    for pid, line in command_lines().items():
        with suppress(ProcessLookupError):
            if os.getsid(pid) not in {*sessions, os.getsid(0)}:
                left[pid] = line
    return left


def num_planned(plan: Plan, events: Sequence[Event]) -> int:
    """The planned number of trials, with those that later launches added."""
    added = [event.trials for event in events if isinstance(event, TrialsExtended)]
    return added[-1] if added else plan.space.trials
