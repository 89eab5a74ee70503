"""The bar of a long step: its units, the time left, and no 100 % while work goes on."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from raysearch.cli.progress_bar import StepBar, clock, file_progress
from raysearch.data.step_progress import StepProgress


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Clock:
    return Clock()


def epochs(done: float, step: str = "refitting") -> StepProgress:
    return StepProgress(step, done, 10, "epochs")


def test_the_time_left_is_that_of_the_measured_speed(now: Clock) -> None:
    bar = StepBar(now=now)
    bar.update(epochs(4))  # a checkpoint had these
    assert bar.text() == "4 of 10 epochs"
    now.seconds = 30.0
    bar.update(epochs(5.5))
    assert bar.text() == "5.5 of 10 epochs, about 1:30 left"
    now.seconds = 40.0
    assert bar.text() == "5.5 of 10 epochs, about 1:20 left"
    now.seconds = 500.0  # much slower than before: a time would be wrong
    assert bar.text() == "5.5 of 10 epochs"


def test_the_speed_is_that_of_the_last_minutes_and_of_the_current_step(now: Clock) -> None:
    bar = StepBar(now=now)
    for now.seconds, done in ((0.0, 0), (1000.0, 1), (1100.0, 2), (1160.0, 4)):
        bar.update(StepProgress("scoring", done, 10, "patches"))
    assert bar.remaining_seconds() == pytest.approx(6 * 160 / 3)
    bar.update(epochs(1))
    assert bar.remaining_seconds() is None
    now.seconds += 10
    bar.update(epochs(2))
    assert bar.remaining_seconds() == pytest.approx(80)


def test_reports_that_arrive_at_once_have_the_speed_of_their_own_times(now: Clock) -> None:
    bar, now.seconds = StepBar(now=now), 50.0
    for reported_s, done in ((9000.0, 0), (9060.0, 2), (9120.0, 4)):  # of another clock
        bar.update(epochs(done), reported_s)
    assert bar.remaining_seconds() == pytest.approx(6 * 30)
    now.seconds += 30.0
    assert bar.remaining_seconds() == pytest.approx(5 * 30)
    bar.update(epochs(5), 9150.0)
    assert bar.remaining_seconds() == pytest.approx(5 * 30)


@pytest.mark.parametrize("progress", [epochs(10), StepProgress("writing", 0, 0, "patches")])
def test_a_bar_is_never_full_while_work_goes_on(progress: StepProgress, now: Clock) -> None:
    bar = StepBar("reading", now)
    assert bar.bar().pulse
    bar.update(epochs(9))
    assert not bar.bar().pulse
    assert bar.bar().percentage_completed == 90.0
    bar.update(progress)
    assert bar.bar().pulse
    assert bar.text() == ("10 epochs done, finishing" if progress.total else "")


def test_a_bar_fits_a_narrow_terminal(now: Clock) -> None:
    bar = StepBar("reading", now)
    bar.update(StepProgress("refitting t0003 on all patients " * 3, 12_000, 40_000, "patches"))
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(bar)
    (line,) = console.export_text().splitlines()
    assert line.startswith("refitting t0003 on")
    assert "12,000 of 40,000 patches" in line


def test_nothing_is_shown_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with file_progress("Scoring", "patches") as update:
        update(1, 2)
    printed = capsys.readouterr()
    assert printed.out + printed.err == ""


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.9, "1:01"), (3723, "1:02:03")])
def test_a_duration_is_shown_in_minutes(seconds: float, text: str) -> None:
    assert clock(seconds) == text
