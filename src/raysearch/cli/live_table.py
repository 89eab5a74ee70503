"""What a study looks like while it runs: one table, not a scroll of lines."""

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

from raysearch.cli.tables import STYLES, hparams_text
from raysearch.search.journal.history import History, Trial, finished, leaderboard
from raysearch.search.journal.events import Event, StudyLaunched, TrialEnded, TrialWarning
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan

MAX_ROWS = 12
MAX_WARNINGS = 3


class Shown(Protocol):
    """A study as it is looked at: the launcher's own, or the mirror of one that runs elsewhere."""

    plan: Plan
    history: History
    lock: threading.RLock

    def add_listener(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with each further event."""

    def total_fold_epochs(self, trial: Trial) -> int:
        """The fold-epochs after which `trial` is finished."""


class StudyView:
    """The live table of `study`; rich asks for it four times a second."""

    def __init__(self, study: Shown, console: Console) -> None:
        self._study, self._console = study, console
        self._began = time.time()
        self._done_before = sum(trial.epoch for trial in study.history.trials.values())
        self.warnings: list[str] = []

    def __rich__(self) -> RenderableType:
        with self._study.lock:
            warnings = (Text(text, "yellow") for text in self.warnings[-MAX_WARNINGS:])
            return Group(*warnings, self._head(), Padding(self._bar(), 0), self._table())

    def on_event(self, event: Event) -> None:
        """Say on a line that a trial ended or has a warning, where no terminal shows the table.

        A launch that is heard of later, as by who attaches to it, began when it says it did.
        """
        if isinstance(event, StudyLaunched):
            self._began = min(self._began, event.time)
            self._done_before = sum(one.epoch for one in self._study.history.trials.values())
        if isinstance(event, TrialWarning):
            self.warnings.append(f"{event.trial}: {event.text}")
            if not self._console.is_terminal:
                self._say(self.warnings[-1])
        if isinstance(event, TrialEnded) and not self._console.is_terminal:
            trial = self._study.history.trials[event.trial]
            value = "" if trial.objective is None else f" {trial.objective:.4f}"
            self._say(
                f"{trial.id} {trial.status}{value} after {trial.epoch} fold-epochs"
                f" ({trial.reason})  {hparams_text(trial, self._study.plan)}"
            )

    def say_warnings(self) -> None:
        """Print every warning on a line."""
        for warning in self.warnings:
            self._say(warning)

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)

    def _head(self) -> Text:
        plan, history = self._study.plan, self._study.history
        trials = history.searched()
        counts = {status: sum(one.status == status for one in trials) for status in STYLES}
        text = Text(f"{plan.name}  ", style="bold")
        for status, count in counts.items():
            text.append(f"{count} {status}  ", style=STYLES[status])
        text.append(f"{history.planned(plan.space.trials) - len(trials)} to come  ")
        for best in finished(history, plan.space.mode)[:1]:
            text.append(
                f"best {plan.space.metric} {best.final_objective:.4f} ({best.id})  ", "bold"
            )
        text.append(f"{clock(time.time() - self._began)} gone")
        left = self.seconds_left()
        text.append("" if left is None else f", about {clock(left)} left")
        return text

    def _bar(self) -> ProgressBar:
        trials = self._study.history.trials.values()
        ended = sum(one.status != "running" for one in trials if one.kind == "trial")
        return ProgressBar(
            total=self._study.history.planned(self._study.plan.space.trials),
            completed=ended,
            width=60,
        )

    def _table(self) -> Table:
        plan = self._study.plan
        table = Table(
            "trial", "state", "fold", "fold-epochs", plan.space.metric, "hparams", box=None
        )
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
        """The running trials, then the best of the others."""
        history = self._study.history
        running = history.running()
        ranked = leaderboard(history, self._study.plan.space.mode)
        rest = [trial for trial in ranked if trial.status != "running"]
        return (running + rest)[:MAX_ROWS]

    def seconds_left(self) -> float | None:
        """The time left, at the pace and by the mean length of the trials so far.

        None while fewer than a quarter of them ended. Half of the trials that outlive the mean are
        taken to run out.
        """
        history, plan = self._study.history, self._study.plan
        ended = [one for one in history.searched() if one.status != "running"]
        done = sum(one.epoch for one in history.trials.values()) - self._done_before
        if len(ended) < history.planned(plan.space.trials) / 4 or done <= 0:
            return None
        mean = sum(one.epoch for one in ended) / len(ended)
        running = sum(
            max(mean - one.epoch, (self._study.total_fold_epochs(one) - one.epoch) / 2)
            for one in history.running()
        )
        left = (
            running
            + mean * (history.planned(plan.space.trials) - len(history.searched()))
            + plan.space.epochs
        )
        return left * (time.time() - self._began) / done


class LiveView:
    """Shows a study on `console` from the first moment to the last; a `StudyListener`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._view: StudyView | None = None
        self._phase = "starting"
        self._live = Live(
            self, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
        )

    def __rich__(self) -> RenderableType:
        waiting = Spinner("dots", f"{self._phase} ...")
        return Group(waiting, self._view) if self._view else waiting

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._live.stop()
        if self._view and self._console.is_terminal:  # the table is gone, and they with it
            self._view.say_warnings()

    def on_status(self, text: str) -> None:
        """The study is at `text` now."""
        self._phase = text
        if not self._console.is_terminal:
            self._console.print(f"{text} ...")

    def on_study(self, study: Shown) -> None:
        """The study is open, and about to search."""
        self._view = StudyView(study, self._console)
        study.add_listener(self._view.on_event)


@contextmanager
def quiet_errors(folder: StudyFolder) -> Iterator[None]:
    """Send what Ray and MLflow say, in Python or not, to the study's log, for as long as it lasts.

    On an address that is no local folder the log is a file beside the temporary ones.
    """
    local = folder.local if folder.is_local else Path(tempfile.gettempdir()) / folder.name
    path = local / folder.LOGS / "launch.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    kept = os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def clock(seconds: float) -> str:
    """`seconds` as people read them."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
