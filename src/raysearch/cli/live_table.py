"""The live table of a running study: one table that is updated in place, not a growing log."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from raysearch.cli.leaderboard_table import STYLES, hparams_text
from raysearch.search.journal.events import Event, StudyLaunched, TrialEnded, TrialWarning
from raysearch.search.journal.history import History, Trial, finished, leaderboard
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan

MAX_ROWS = 12
MAX_WARNINGS = 3
BAR_WIDTH = 60
# The remaining time is estimated once so many of the planned trials have ended.
MIN_ENDED_FRACTION = 1 / 4


class ViewedStudy(Protocol):
    """A study that is viewed: the launcher's own, or the view of one on another machine."""

    plan: Plan
    history: History
    lock: threading.RLock

    def add_listener(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with each further event."""

    def total_fold_epochs(self, trial: Trial) -> int:
        """Return the fold-epochs after which `trial` is finished."""


class StudyView:
    """The live table of a study, which rich renders four times a second.

    Args:
        study: The study.
        console: Where warnings and ended trials are printed if it is no terminal.
    """

    def __init__(self, study: ViewedStudy, console: Console) -> None:
        self._study, self._console = study, console
        self._start_time = time.time()
        self._initial_fold_epochs = _num_fold_epochs(study.history)
        self.warnings: list[str] = []

    def __rich__(self) -> RenderableType:
        with self._study.lock:
            warnings = (Text(text, "yellow") for text in self.warnings[-MAX_WARNINGS:])
            return Group(*warnings, self._status_line(), Padding(self._bar(), 0), self._table())

    def on_event(self, event: Event) -> None:
        """Follow an event of the study; print a warning or an ended trial without a terminal.

        The events of a launch that is attached to arrive later than they occurred, so the start
        time is that of the first `StudyLaunched`.
        """
        if isinstance(event, StudyLaunched):
            self._start_time = min(self._start_time, event.time)
            self._initial_fold_epochs = _num_fold_epochs(self._study.history)
        if isinstance(event, TrialWarning):
            self.warnings.append(f"{event.trial}: {event.text}")
            if not self._console.is_terminal:
                self._print(self.warnings[-1])
        if isinstance(event, TrialEnded) and not self._console.is_terminal:
            trial = self._study.history.trials[event.trial]
            value = "" if trial.objective is None else f" {trial.objective:.4f}"
            self._print(
                f"{trial.id} {trial.status}{value} after {trial.epoch} fold-epochs"
                f" ({trial.reason})  {hparams_text(trial, self._study.plan)}"
            )

    def print_warnings(self) -> None:
        """Print each warning on a line."""
        for warning in self.warnings:
            self._print(warning)

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)

    def _num_planned(self) -> int:
        return self._study.history.planned(self._study.plan.space.trials)

    def _status_line(self) -> Text:
        plan, history = self._study.plan, self._study.history
        trials = history.searched()
        text = Text(f"{plan.name}  ", style="bold")
        for status, style in STYLES.items():
            count = sum(trial.status == status for trial in trials)
            text.append(f"{count} {status}  ", style=style)
        text.append(f"{self._num_planned() - len(trials)} pending  ")
        for best in finished(history, plan.space.mode)[:1]:
            text.append(
                f"best {plan.space.metric} {best.final_objective:.4f} ({best.id})  ", "bold"
            )
        text.append(f"{clock(time.time() - self._start_time)} elapsed")
        remaining_s = self.remaining_seconds()
        text.append("" if remaining_s is None else f", about {clock(remaining_s)} remaining")
        return text

    def _bar(self) -> ProgressBar:
        searched = self._study.history.searched()
        num_ended = sum(trial.status != "running" for trial in searched)
        return ProgressBar(total=self._num_planned(), completed=num_ended, width=BAR_WIDTH)

    def _table(self) -> Table:
        plan = self._study.plan
        names = ("trial", "state", "fold", "fold-epochs", plan.space.metric, "hyperparameters")
        table = Table(*names, box=None)
        for trial in self._rows():
            value = "" if trial.objective is None else f"{trial.objective:.4f}"
            fold = min(trial.epoch // plan.space.epochs, trial.folds - 1)
            table.add_row(
                trial.id,
                f"[{STYLES[trial.status]}]{trial.status}[/]",
                f"{fold + 1}/{trial.folds}",
                f"{trial.epoch}/{self._study.total_fold_epochs(trial)}",
                value,
                Text(hparams_text(trial, plan), overflow="ellipsis", no_wrap=True),
            )
        return table

    def _rows(self) -> list[Trial]:
        """Return the running trials, then the best of the others."""
        history = self._study.history
        ranked = leaderboard(history, self._study.plan.space.mode)
        not_running = [trial for trial in ranked if trial.status != "running"]
        return (history.running() + not_running)[:MAX_ROWS]

    def remaining_seconds(self) -> float | None:
        """Estimate the remaining time from the speed and the mean length of the trials so far.

        A running trial is taken to train to the mean length of the ended ones, or half of its own
        remaining fold-epochs, whichever is more. None until `MIN_ENDED_FRACTION` of the planned
        trials have ended.
        """
        history, plan = self._study.history, self._study.plan
        num_planned = self._num_planned()
        ended = [trial for trial in history.searched() if trial.status != "running"]
        num_trained = _num_fold_epochs(history) - self._initial_fold_epochs
        if len(ended) < num_planned * MIN_ENDED_FRACTION or num_trained <= 0:
            return None
        mean_length = sum(trial.epoch for trial in ended) / len(ended)
        running = sum(
            max(mean_length - trial.epoch, (self._study.total_fold_epochs(trial) - trial.epoch) / 2)
            for trial in history.running()
        )
        pending = mean_length * (num_planned - len(history.searched()))
        remaining = running + pending + plan.space.epochs  # the epochs are those of the refit
        return remaining * (time.time() - self._start_time) / num_trained


def _num_fold_epochs(history: History) -> int:
    return sum(trial.epoch for trial in history.trials.values())


class LiveView:
    """Shows a study on a console from its start to its end; a `StudyListener`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._view: StudyView | None = None
        self._status = "starting"
        self._live = Live(
            self, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
        )

    def __rich__(self) -> RenderableType:
        spinner = Spinner("dots", f"{self._status} ...")
        return Group(spinner, self._view) if self._view else spinner

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._live.stop()
        if self._view and self._console.is_terminal:  # they disappeared with the table
            self._view.print_warnings()

    def on_status(self, text: str) -> None:
        """Show what the launcher is doing."""
        self._status = text
        if not self._console.is_terminal:
            self._console.print(f"{text} ...")

    def on_study(self, study: ViewedStudy) -> None:
        """Show the table of a study that is open and about to search."""
        self._view = StudyView(study, self._console)
        study.add_listener(self._view.on_event)


@contextmanager
def stderr_in_log(folder: StudyFolder) -> Iterator[None]:
    """Send standard error, also that of native code, to the study's log inside the `with` block.

    Ray and MLflow would otherwise write over the table. If the study is not on a local path, the
    log is in the folder for temporary files.
    """
    local = folder.local if folder.is_local else Path(tempfile.gettempdir()) / folder.name
    path = local / folder.LOGS / "launch.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    original = os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
        yield
    finally:
        sys.stderr.flush()
        os.dup2(original, 2)
        os.close(original)


def clock(seconds: float) -> str:
    """Return a duration as minutes:seconds, or hours:minutes:seconds."""
    minutes, seconds_left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{seconds_left:02d}"
    return f"{minutes}:{seconds_left:02d}"
