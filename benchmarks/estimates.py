"""How well the estimates of the remaining time hold: ten real studies on this machine.

    .venv/bin/python benchmarks/estimates.py
    .venv/bin/python benchmarks/estimates.py --studies 1 --folder studies
    .venv/bin/python benchmarks/estimates.py --replay studies/first

Each study has a limit of trials, and mixes fast and slow networks. A dry run measures them first,
as a user would do it; then `raysearch launch` runs the study, and this process follows its journal
with the estimator of the live table. The estimates at 25, 50 and 75 % of the time from the start
of the search to the end of the launch are compared with the time that then remained. A run takes
about an hour, and needs a quiet machine. With --replay, the estimator reads the journal of a study
that has ended, with the times of its events; this takes seconds. --folder keeps the studies.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raysearch.cli.live_estimate import remaining_time
from raysearch.search.journal.events import Event
from raysearch.search.journal.followed_journal import FollowedJournal
from raysearch.search.journal.history import History
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.scheduling.remaining_seconds import RemainingSeconds
from raysearch.search.study.plan import Plan
from raysearch.search.study.stored_study import open_journal, read_plan

PARTS = (0.25, 0.5, 0.75)
MAX_FACTOR, MIN_FRACTION = 1.5, 0.9
POLL_S = 0.5
# The time between two estimates, which the live table makes every second.
INTERVAL_S = 2.0
SPACE = """
data: synthetic:24:{patches}:0
objective: {{metric: auroc, mode: max}}
epochs: {epochs}
trials: {trials}
seed: {seed}
memory: none
repeats: {repeats}
stopping: {{rule: {rule}}}
resources: {{cpus: 1, gpus: 0}}
space:
  folds: {folds}
  architecture: {{choice: [{architectures}]}}
  learning_rate: {{loguniform: [1.0e-3, 1.0e-2]}}
  batch_size: {{choice: [32, 64]}}
"""
WIDTH = "  width: {{choice: [4, 8], when: {{architecture: [{}]}}}}\n"
# The architectures that read the width.
WITH_WIDTH = ("cnn", "p4m")


@dataclass(frozen=True)
class StudySetup:
    """A study of the benchmark.

    Attributes:
        architectures: Its architectures.
        rule: The early-stopping rule.
        trials: The number of trials.
        epochs: The epochs of a fold.
        folds: The number of folds.
        patches: The number of synthetic patches of 50 pixels.
        repeats: The repeats of the champion.
    """

    architectures: tuple[str, ...]
    rule: str
    trials: int
    epochs: int
    folds: int = 3
    patches: int = 1200
    repeats: int = 1

    def space(self, seed: int) -> str:
        """Return the space file."""
        text = SPACE.format(
            architectures=", ".join(self.architectures),
            rule=self.rule,
            trials=self.trials,
            epochs=self.epochs,
            folds=self.folds,
            patches=self.patches,
            repeats=self.repeats,
            seed=seed,
        )
        with_width = [name for name in self.architectures if name in WITH_WIDTH]
        return text + WIDTH.format(", ".join(with_width))


# Two slow cores take three to eight minutes for each.
SETUPS = (
    StudySetup(("cnn", "p4m"), "forest", 20, 3, patches=800),
    StudySetup(("cnn", "mobilenet_v3_small"), "forest", 30, 5, patches=1600),
    StudySetup(("cnn", "p4m", "mobilenet_v3_small"), "forest", 24, 4),
    StudySetup(("cnn", "p4m"), "asha", 40, 4),
    StudySetup(("cnn", "p4m", "mobilenet_v3_small"), "promotion", 36, 4, patches=1600),
    StudySetup(("cnn", "p4m"), "none", 12, 3, folds=2),
    StudySetup(("cnn", "mobilenet_v3_small"), "none", 14, 5, folds=2, repeats=2),
    StudySetup(("cnn", "p4m", "resnet18"), "forest", 20, 3, patches=600),
    StudySetup(("cnn",), "forest", 56, 6),
    StudySetup(("cnn", "p4m"), "forest", 24, 2, folds=4, repeats=0),
)


@dataclass(frozen=True)
class Estimate:
    """An estimate of a running study, and when it was made; None if it was unknown."""

    time: float
    remaining: RemainingSeconds | None


class EstimateRecorder:
    """Follows the events of a study with the estimator of the live table."""

    def __init__(self, plan: Plan) -> None:
        self._remaining = remaining_time(plan, is_local=True, num_trials=plan.space.trials)
        self._history = History()
        self.estimates: list[Estimate] = []

    def apply(self, event: Event) -> None:
        """Follow the next event."""
        self._history.apply(event)
        self._remaining.apply(event)

    def estimate(self, now: float) -> None:
        """Record the estimate at `now`."""
        estimate = self._remaining.estimate(self._history, now)
        self.estimates.append(Estimate(now, estimate))


@dataclass(frozen=True)
class Comparison:
    """An estimate at a part of the time of a study, and the seconds that then remained."""

    part: float
    estimate: RemainingSeconds | None
    actual_s: float

    @property
    def holds(self) -> bool:
        """Whether the estimate is within the factor."""
        if self.estimate is None or self.estimate.total <= 0:
            return False
        return abs(math.log(self.estimate.total / self.actual_s)) <= math.log(MAX_FACTOR)

    @property
    def is_in_range(self) -> bool:
        """Whether the seconds that remained are in the range, or the total holds without one."""
        limits = None if self.estimate is None else self.estimate.limits
        return self.holds if limits is None else limits[0] <= self.actual_s <= limits[1]

    def __str__(self) -> str:
        text = "unknown"
        if self.estimate is not None:
            text = f"{self.estimate.total:.0f} s"
            if self.estimate.limits is not None:
                text += " ({:.0f} to {:.0f} s)".format(*self.estimate.limits)
        mark = "" if self.holds else "  beyond the factor"
        return f"  {self.part:.0%}: {text} estimated, {self.actual_s:.0f} s remained{mark}"


def compare(estimates: Sequence[Estimate], start: float, end: float) -> list[Comparison]:
    """Compare the last estimate before each part of the time with what then remained."""
    comparisons = []
    for part in PARTS:
        now = start + part * (end - start)
        earlier = [estimate for estimate in estimates if estimate.time <= now]
        remaining = None
        if earlier and earlier[-1].remaining is not None:
            remaining = earlier[-1].remaining.after(now - earlier[-1].time)
        comparisons.append(Comparison(part, remaining, end - now))
    return comparisons


def run_study(setup: StudySetup, number: int, folder: Path) -> list[Comparison]:
    """Run a study, and return its comparisons."""
    space = folder / f"study{number}.yaml"
    space.write_text(setup.space(number))
    raysearch = str(Path(sys.executable).with_name("raysearch"))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    launch = [raysearch, "launch", str(space)]
    subprocess.run(
        [*launch, "--dry-run"], cwd=folder, env=environment, capture_output=True, check=True
    )
    name = space.stem
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [*launch, "--name", name], cwd=folder, env=environment, stdout=log, stderr=log
        )
        start, estimates = follow(process, StudyFolder(folder / "studies" / name))
        end = time.time()
    if process.returncode:
        sys.exit(f"study {number} ended with {process.returncode}; see {log.name}")
    return compare(estimates, start, end)


def follow(process: subprocess.Popen[bytes], folder: StudyFolder) -> tuple[float, list[Estimate]]:
    """Follow a launch to its end; return the time of its first event, and the estimates."""
    while not folder.exists(folder.JOURNAL) and process.poll() is None:
        time.sleep(POLL_S)
    if process.poll() is not None:
        return time.time(), []
    recorder = EstimateRecorder(read_plan(folder))
    journal = FollowedJournal(folder / folder.JOURNAL)
    start, last_time = 0.0, 0.0
    while process.poll() is None:
        for event in journal.new_events():
            start = start or event.time
            recorder.apply(event)
        if time.time() - last_time >= INTERVAL_S:
            last_time = time.time()
            recorder.estimate(last_time)
        time.sleep(POLL_S)
    return start, recorder.estimates


def replay(folder: StudyFolder) -> list[Comparison]:
    """Return the comparisons of an ended study, by the times of its events."""
    plan = read_plan(folder)
    events = open_journal(folder, plan.identity).events
    recorder = EstimateRecorder(plan)
    start, end = events[0].time, events[-1].time
    times = [start + part * (end - start) for part in PARTS]
    for event in events:
        while times and event.time > times[0]:
            recorder.estimate(times.pop(0))
        recorder.apply(event)
    return compare(recorder.estimates, start, end)


def show(title: str, comparisons: list[Comparison]) -> list[Comparison]:
    """Print the comparisons of a study, and return them."""
    print("\n".join([title, *map(str, comparisons)]), flush=True)
    return comparisons


def main() -> None:
    """Run or replay studies; print the comparisons, and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=int, default=len(SETUPS), help="the first so many")
    parser.add_argument("--replay", type=Path, nargs="+", help="folders of ended studies")
    parser.add_argument("--folder", type=Path, help="the folder of the studies, which keeps them")
    arguments = parser.parse_args()
    comparisons: list[Comparison] = []
    for path in arguments.replay or []:
        comparisons += show(str(path), replay(StudyFolder(path)))
    setups = [] if arguments.replay else SETUPS[: arguments.studies]
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.folder or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for number, setup in enumerate(setups, 1):
            comparisons += show(f"study {number}: {setup}", run_study(setup, number, folder))
    num_held = sum(comparison.holds for comparison in comparisons)
    num_in_range = sum(comparison.is_in_range for comparison in comparisons)
    print(f"{num_in_range} of {len(comparisons)} in the range that is shown, or within the factor")
    fraction = num_held / len(comparisons)
    line = {
        "benchmark": "estimates",
        "value": num_held,
        "unit": f"of {len(comparisons)} estimates within a factor of {MAX_FACTOR:g}",
        "peer": None,
        "ratio": round(fraction, 2),
        "goal": f">= {math.ceil(MIN_FRACTION * len(comparisons))}",
        "pass": fraction >= MIN_FRACTION,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
