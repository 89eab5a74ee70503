"""A progress bar for long steps: what is done, and the time left at the measured speed."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raysearch.cli.safe_console import SafeConsole
from raysearch.data.step_progress import StepCallback, StepProgress

BAR_WIDTH = 30
# The speed is that of the last so many seconds, or of the last two reports if these are older.
SPEED_WINDOW_S = 120.0


class StepBar:
    """The bar of one step at a time, which rich renders.

    A bar at 100 % would say that the work is over: until the next step or the end, it moves to and
    fro and says `finishing`.

    Args:
        step: What is done before the first report.
        now: Returns the time in seconds.
    """

    def __init__(self, step: str = "", now: Callable[[], float] = time.monotonic) -> None:
        self._progress = StepProgress(step, 0, 0, "")
        self._now = now
        # The times of reports, and what was done.
        self._reports: deque[tuple[float, float]] = deque()
        # How far the clock of this process is ahead of that of the reports.
        self._ahead_s = math.inf

    @property
    def step(self) -> str:
        """What is done."""
        return self._progress.step

    def update(self, progress: StepProgress, reported_s: float | None = None) -> None:
        """Show `progress`; the speed of another step is forgotten.

        Args:
            progress: How far the step is.
            reported_s: When that was reported, by the clock of another machine, which may differ;
                None for now. Reports of the past may arrive all at once.
        """
        last, now = self._progress, self._now()
        reported_s = now if reported_s is None else reported_s
        # The report that arrived with the least delay tells the difference of the clocks.
        self._ahead_s = min(self._ahead_s, now - reported_s)
        if progress.step != last.step or progress.done < last.done:
            self._reports.clear()
        if not self._reports or progress.done > last.done:
            self._reports.append((reported_s, progress.done))
        self._progress = progress
        oldest = now - self._ahead_s - SPEED_WINDOW_S
        while len(self._reports) > 2 and self._reports[1][0] < oldest:
            self._reports.popleft()

    def remaining_seconds(self) -> float | None:
        """Return the time left at the speed of this process; None if it is unknown."""
        if len(self._reports) < 2:
            return None
        (first_s, first), (last_s, last) = self._reports[0], self._reports[-1]
        if last_s <= first_s:
            return None
        expected = (self._progress.total - last) * (last_s - first_s) / (last - first)
        remaining = expected - (self._now() - self._ahead_s - last_s)
        return remaining if remaining > 0 else None

    def text(self) -> str:
        """Return the number of units that are done, and the time left."""
        progress = self._progress
        if not progress.total:
            return ""
        total = f"{progress.total:,.0f} {progress.unit}"
        if progress.done >= progress.total:
            return f"{total} done, finishing"
        text = f"{_number(progress.done)} of {total}"
        remaining_s = self.remaining_seconds()
        return (
            text if remaining_s is None else f"{text}, about {clock(math.ceil(remaining_s))} left"
        )

    def bar(self) -> ProgressBar:
        """Return the bar itself."""
        progress = self._progress
        is_known = 0 < progress.total > progress.done
        return ProgressBar(
            total=progress.total if is_known else None,
            completed=progress.done,
            width=BAR_WIDTH,
            pulse=not is_known,
            animation_time=self._now(),
        )

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        text, step = self.text(), Text(self.step)
        step.truncate(max(1, options.max_width - BAR_WIDTH - len(text) - 2), overflow="ellipsis")
        table = Table.grid(padding=(0, 1))
        table.add_row(step, self.bar(), Text(text, no_wrap=True))
        yield table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def clock(seconds: float) -> str:
    """Return a duration as minutes:seconds, or hours:minutes:seconds."""
    minutes, seconds_left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{seconds_left:02d}"
    return f"{minutes}:{seconds_left:02d}"


@contextmanager
def file_progress(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show the bar of one step on standard error; the yielded function takes (done, total).

    Args:
        title: What is done.
        unit: The name of what is counted, in the plural.
    """
    with step_progress(title) as on_progress:
        yield lambda done, total: on_progress(StepProgress(title, done, total, unit))


@contextmanager
def step_progress(title: str) -> Iterator[StepCallback]:
    """Show the bar of the current step on standard error, if that is a terminal.

    Args:
        title: What is done before the first report.
    """
    console, bar = SafeConsole(stderr=True), StepBar(title)
    if not console.is_terminal:
        yield bar.update
        return
    live = Live(bar, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
    with live:
        yield bar.update
