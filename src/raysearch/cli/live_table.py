"""The live table of a running study: one table that is updated in place, not a growing log."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from raysearch.cli.leaderboard_table import STYLES, hparams_text
from raysearch.cli.live_estimate import LiveEstimate
from raysearch.cli.notebook_display import NotebookDisplay
from raysearch.cli.progress_bar import StepBar, clock
from raysearch.config.report_interval import trial_epochs
from raysearch.data.file_access import create_folder, open_log
from raysearch.data.step_progress import StepProgress
from raysearch.search.journal.events import Event, StudyLaunched, TrialEnded, TrialWarning
from raysearch.search.journal.history import History, Trial, finished, leaderboard
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.scheduling.remaining_seconds import RemainingSeconds
from raysearch.search.study.plan import Plan

MAX_ROWS = 12
MAX_WARNINGS = 3
BAR_WIDTH = 60
# Without a table, a line is printed this often while a step such as a refit goes on.
STEP_LINE_S = 30.0


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
        console: Where warnings and ended trials are printed if no table is shown.
        is_local: Whether its trials run on this machine.
        is_notebook: Whether the table is shown in a notebook.
    """

    def __init__(
        self,
        study: ViewedStudy,
        console: Console,
        is_local: bool = True,
        is_notebook: bool = False,
    ) -> None:
        self._study, self._console = study, console
        self._prints_lines = not (is_notebook or console.is_terminal)
        self._start_time = time.time()
        self.is_search_over = False
        self.estimate = LiveEstimate(study, is_local)
        self.warnings: list[str] = []

    def __rich__(self) -> RenderableType:
        with self._study.lock:
            warnings = (Text(text, "yellow") for text in self.warnings[-MAX_WARNINGS:])
            return Group(*warnings, self._status_line(), Padding(self._bar(), 0), self._table())

    def on_event(self, event: Event) -> None:
        """Follow an event of the study; print a warning or an ended trial without a table.

        The events of a launch that is attached to arrive later than they occurred, so the start
        time is that of the last `StudyLaunched`.
        """
        self.estimate.on_event(event)
        if isinstance(event, StudyLaunched):
            self._start_time = event.time
        if isinstance(event, TrialWarning):
            self.warnings.append(f"{event.trial}: {event.text}")
            if self._prints_lines:
                self._print(self.warnings[-1])
        if isinstance(event, TrialEnded) and self._prints_lines:
            trial = self._study.history.trials[event.trial]
            value = "" if trial.objective is None else f" {trial.objective:.4f}"
            self._print(
                f"{trial.id} {trial.status}{value} after {trial.epoch} fold-epochs"
                f" ({trial.reason})  {hparams_text(trial, self._study.plan)}"
            )

    def print_warnings(self, *, with_shown: bool) -> None:
        """Print each warning on a line.

        Args:
            with_shown: Whether those that the table shows are printed, too.
        """
        for warning in self.warnings if with_shown else self.warnings[:-MAX_WARNINGS]:
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
        text.append(f"\n{clock(time.time() - self._start_time)} elapsed")
        remaining = None if self.is_search_over else self.remaining()
        if remaining is not None:
            text.append(f", about {clock(remaining.total)}")
            if remaining.limits is not None:
                text.append(" ({} to {})".format(*map(clock, remaining.limits)))
            text.append(" remaining")
        return text

    def _bar(self) -> ProgressBar:
        searched = self._study.history.searched()
        num_ended = sum(trial.status != "running" for trial in searched)
        return ProgressBar(total=self._num_planned(), completed=num_ended, width=BAR_WIDTH)

    def _table(self) -> Table:
        plan = self._study.plan
        names = ("trial", "state", "folds", "fold-epochs", plan.space.metric, "hyperparameters")
        table = Table(*names, box=None)
        for trial in self._rows():
            value = "" if trial.objective is None else f"{trial.objective:.4f}"
            table.add_row(
                trial.id,
                f"[{STYLES[trial.status]}]{trial.status}[/]",
                f"{trial.epoch // trial_epochs(plan.space, trial.hparams)}/{trial.folds}",
                f"{trial.epoch}/{self._study.total_fold_epochs(trial)}",
                value,
                Text(hparams_text(trial, plan), overflow="ellipsis", no_wrap=True),
            )
        return table

    def _rows(self) -> list[Trial]:
        """Return the running trials, then the best of the others."""
        history = self._study.history
        ranked = leaderboard(history, self._study.plan.space)
        not_running = [trial for trial in ranked if trial.status != "running"]
        return (history.running() + not_running)[:MAX_ROWS]

    def remaining(self) -> RemainingSeconds | None:
        """Return what the study still needs; None if it is unknown."""
        return self.estimate.remaining()


class LiveView:
    """Shows a study on a console from its start to its end; a `StudyListener`.

    In a notebook, the table stays at the end.

    Args:
        console: The console.
        is_local: Whether the trials run on this machine.
        is_notebook: Whether the table is shown in the output of a notebook's cell; lines are
            printed to the console.
    """

    def __init__(self, console: Console, is_local: bool = True, is_notebook: bool = False) -> None:
        self._console, self._is_local, self._is_notebook = console, is_local, is_notebook
        self._prints_lines = not (is_notebook or console.is_terminal)
        self._view: StudyView | None = None
        self._status = "starting"
        self._step_bar: StepBar | None = None
        self._printed_step_s = 0.0
        self._is_over = False
        self._live: Live | NotebookDisplay
        if is_notebook:
            self._live = NotebookDisplay(self.__rich__)
        else:
            self._live = Live(
                self, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
            )

    def __rich__(self) -> RenderableType:
        return Group(
            *([] if self._is_over else self._step()), *([self._view] if self._view else [])
        )

    def _step(self) -> list[RenderableType]:
        """Return what the launcher is doing."""
        step_bar = self._step_bar
        text = f"{self._status if step_bar is None else step_bar.step} ..."
        parts: list[RenderableType] = [Text(text) if self._is_notebook else Spinner("dots", text)]
        if step_bar is not None:
            parts.append(Columns([step_bar.bar(), step_bar.text()]))
        return parts

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_over = True
        self._live.stop()
        if self._view:
            self._view.estimate.close()
        if self._view and not self._prints_lines:
            # Those in a terminal disappeared with the table.
            self._view.print_warnings(with_shown=not self._is_notebook)

    def on_status(self, text: str) -> None:
        """Show what the launcher is doing."""
        self._status, self._step_bar = text, None
        if self._prints_lines:
            self._console.print(f"{text} ...")

    def on_progress(self, progress: StepProgress, reported_s: float | None = None) -> None:
        """Show how far the current step is; without a table, every `STEP_LINE_S` seconds.

        Args:
            progress: How far it is.
            reported_s: When that was reported, by the clock of another machine; None for now.
        """
        if self._step_bar is None:
            self._step_bar = StepBar(progress.step)
            self._printed_step_s = time.monotonic()
        self._step_bar.update(progress, reported_s)
        if self._view:  # the time left is that of the step
            self._view.is_search_over = True
        now = time.monotonic()
        if self._prints_lines and now - self._printed_step_s >= STEP_LINE_S:
            self._printed_step_s = now
            self._console.print(f"{progress.step}: {self._step_bar.text()}", soft_wrap=True)

    def on_study(self, study: ViewedStudy) -> None:
        """Show the table of a study that is open and about to search."""
        self._view = StudyView(study, self._console, self._is_local, self._is_notebook)
        study.add_listener(self._view.on_event)
        self._view.estimate.start()


@contextmanager
def stderr_in_log(folder: StudyFolder) -> Iterator[None]:
    """Send standard error, also that of native code, to the study's log inside the `with` block.

    Ray and MLflow would otherwise write over the table. If the study is not on a local path, the
    log is in the folder `logs/STUDY` of the cache. If the disk of the log is full, lines of it are
    lost; standard error is the original one after the block in any case.
    """
    sys.stderr.flush()
    original = os.dup(2)
    try:
        with open_log(_log_folder(folder) / "launch.log") as file:
            os.dup2(file.fileno(), 2)
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
        yield
    finally:
        # `raysearch` protects its streams; those of another program raise if the disk is full.
        with suppress(OSError):
            sys.stderr.flush()
        os.dup2(original, 2)
        os.close(original)


def _log_folder(folder: StudyFolder) -> Path:
    if folder.is_local:
        create_folder(folder.local)
        return folder.local / folder.LOGS
    # pyarrow takes a moment to import, and a local study does not need it.
    from raysearch.data.cache_folder import cache_folder

    return cache_folder() / "logs" / folder.name
