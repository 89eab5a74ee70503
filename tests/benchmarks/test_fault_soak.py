"""What the fault benchmarks count: each kind of defect is found where it was made."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from raysearch.search.journal.events import (
    Event,
    FoldReport,
    TrialEnded,
    TrialPromoted,
    TrialStarted,
)
from raysearch.search.journal.history import History
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.baselines import record_majority
from raysearch.search.study.study import Study
from raysearch.search.tracking.tracker import Tracker
from support.champion_studies import REFIT_DECISION
from support.disturbed_launches import (
    Clock,
    Launch,
    Progress,
    end_errors,
    resume_words,
    send,
)
from support.result_studies import TREE, new_study, next_searched, report_epochs
from support.study_defects import (
    Defects,
    count_decisions,
    count_differences,
    count_journal,
    count_lost_events,
    count_store,
    count_training,
    running_runs,
)

Change = Callable[[list[Event]], list[Event]]


def finished_study(shards: Path, folder: Path) -> Study:
    """A study with promotion and a champion, whose trials report made-up objectives."""
    tree = {**TREE, "stopping": {**TREE["stopping"], "rule": "promotion"}}
    study = new_study(shards, folder, tree)
    record_majority(study)
    while study.policy.next() is not None:
        report_epochs(study, next_searched(study))
    study.finalize()
    study.record_champion(study.history.done()[0], REFIT_DECISION)
    return study


@pytest.fixture(scope="module")
def study(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return finished_study(shards, tmp_path_factory.mktemp("soak") / "made-up")


def count(study: Study, events: list[Event]) -> dict[str, int]:
    defects = Defects()
    count_journal(defects, study.plan, events)
    return {kind: len(texts) for kind, texts in defects.found.items() if texts}


def index_of(events: list[Event], kind: type[Event]) -> int:
    """The position of the last event of a kind."""
    return max(number for number, event in enumerate(events) if isinstance(event, kind))


def without(kind: type[Event]) -> Change:
    def change(events: list[Event]) -> list[Event]:
        return events[: index_of(events, kind)] + events[index_of(events, kind) + 1 :]

    return change


def without_a_report(events: list[Event]) -> list[Event]:
    """Remove the last report at which nothing was decided."""
    between = (event for event in events if isinstance(event, FoldReport) and not event.rung)
    *_others, report, _last = between
    return [event for event in events if event is not report]


def repeated(kind: type[Event]) -> Change:
    def change(events: list[Event]) -> list[Event]:
        number = index_of(events, kind)
        return [*events[: number + 1], *events[number:]]

    return change


def with_an_early_event(events: list[Event]) -> list[Event]:
    return [*events[:-1], replace(events[-1], time=0.0)]


def test_an_undisturbed_journal_has_no_defect(study: Study) -> None:
    assert count(study, list(study.journal.events)) == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (without_a_report, {"lost"}),
        (without(TrialEnded), {"lost"}),
        (repeated(FoldReport), {"twice"}),
        (repeated(TrialEnded), {"twice", "wrong"}),
        (with_an_early_event, {"wrong"}),
        (lambda events: events[:-1], {"lost"}),
    ],
    ids=["report lost", "end lost", "report twice", "end twice", "earlier", "no champion"],
)
def test_each_change_of_a_journal_is_counted(
    study: Study, change: Change, expected: set[str]
) -> None:
    assert set(count(study, change(list(study.journal.events)))) == expected


def test_events_that_a_journal_has_lost_are_counted(study: Study) -> None:
    defects = Defects()
    count_lost_events(defects, study.journal.events, study.journal.events[:-3])
    assert len(defects.found["lost"]) == 3


def test_decisions_are_repeated_from_the_events_before_them(study: Study) -> None:
    defects = Defects()
    num_decisions = count_decisions(defects, study.plan, study.journal.events)
    promotions = [event for event in study.journal.events if isinstance(event, TrialPromoted)]
    assert promotions
    assert num_decisions >= len(promotions) + 2 * len(study.history.searched())
    assert not defects.total


def test_another_decision_is_counted(study: Study) -> None:
    defects, events = Defects(), list(study.journal.events)
    number = index_of(events, TrialStarted)
    started = events[number]
    assert isinstance(started, TrialStarted)
    events[number] = replace(started, hparams={**started.hparams, "width": 5})
    count_decisions(defects, study.plan, events)
    assert f"event {number} is" in defects.found["wrong"][0]


def test_a_study_differs_from_the_undisturbed_one_by_one_number(study: Study) -> None:
    events = list(study.journal.events)
    number = index_of(events, FoldReport)
    report = events[number]
    assert isinstance(report, FoldReport)
    assert report.loss is not None
    other = [*events[:number], replace(report, loss=report.loss + 1e-15), *events[number + 1 :]]
    same, different = Defects(), Defects()
    count_differences(same, study.history, History(events))
    count_differences(different, study.history, History(other))
    assert not same.total
    assert [text.partition(" ")[0] for text in different.found["wrong"]] == [report.trial]


@pytest.mark.filterwarnings("ignore")
def test_trials_are_trained_again_to_the_last_bit(small_champion_study: Study) -> None:
    defects, (trial,) = Defects(), small_champion_study.history.done()
    count_training(defects, small_champion_study.folder, [trial])
    assert not defects.total
    report = trial.reports[-1]
    assert report.objective is not None
    other = replace(report, objective=report.objective + 1e-15)
    changed = replace(trial, reports=[*trial.reports[:-1], other])
    count_training(defects, small_champion_study.folder, [changed])
    assert defects.found["wrong"] == [f"{trial.id}: fold-epoch {other.epoch} has other numbers"]


def alter(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        assert connection.execute(statement).rowcount > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_each_change_of_the_tracking_store_is_counted(study: Study, tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    tracker = Tracker(study.plan, f"sqlite:///{database}")
    for event in study.journal.events:
        tracker.send(event)
    assert running_runs(database, study.plan.name) == [study.plan.name]
    assert tracker.close("FINISHED", 60) is None
    assert running_runs(database, study.plan.name) == []

    def kinds() -> dict[str, int]:
        defects = Defects()
        assert count_store(defects, database, study.plan, study.history) > 100
        return {kind: len(texts) for kind, texts in defects.found.items() if texts}

    trial = study.history.searched()[0]
    run = tracker.run_id(trial.id)
    point = f"key = 'objective' AND step = 1 AND run_uuid = '{run}'"
    assert kinds() == {}
    alter(
        database,
        "INSERT INTO metrics SELECT key, value, timestamp + 1, run_uuid, step, is_nan FROM metrics"
        f" WHERE {point}",
    )
    assert kinds() == {"twice": 1}
    alter(database, f"UPDATE metrics SET value = value + 1 WHERE {point}")
    assert kinds() == {"twice": 1, "wrong": 1}
    alter(database, f"DELETE FROM metrics WHERE {point}")
    assert kinds() == {"lost": 1}
    alter(database, f"UPDATE runs SET status = 'RUNNING' WHERE run_uuid = '{run}'")
    assert kinds() == {"lost": 1, "wrong": 1}
    alter(database, f"UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = '{run}'")
    assert kinds() == {"lost": 1}


def ended_launch(folder: Path, script: str) -> Launch:
    """A launch in which a shell runs `script` to its end."""
    output = folder / "launch.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(["sh", "-c", script], stdout=file, stderr=subprocess.STDOUT)
    process.wait(30)
    return Launch(process, output)


RESUME = "raysearch launch a.yaml --name a --resume"


@pytest.mark.parametrize(
    ("script", "errors"),
    [
        (f"echo 'Resume with: {RESUME}'; exit 130", []),
        (f"echo 'raysearch: it is lost; resume with {RESUME}'; exit 2", []),
        ("exit 130", ["exit code 130 without the command to resume"]),
        ("echo 'raysearch: it is lost'; exit 2", ["exit code 2 without a line"]),
        (f"echo '{RESUME}'; exit 1", ["exit code 1, not 2 or 130"]),
        (f"echo 'Traceback (most recent call last)'; echo '{RESUME}'; exit 130", ["a traceback"]),
    ],
)
def test_the_end_of_a_launch_is_checked(tmp_path: Path, script: str, errors: list[str]) -> None:
    launch = ended_launch(tmp_path, script)
    found = end_errors(launch, frozenset({2, 130}))
    assert len(found) == len(errors)
    assert all(text.startswith(error) for text, error in zip(found, errors, strict=True))
    if not errors:
        assert resume_words(launch) == RESUME.split()[1:]


def test_a_launch_stalls_without_events_and_progresses_with_them(tmp_path: Path) -> None:
    output = tmp_path / "launch.txt"
    output.touch()
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    study = StudyFolder(tmp_path / "study")
    launch = Launch(process, output)
    progress = Progress(launch, study)
    assert progress.wait(lambda: False, 0.3) == "stalled"
    study.write("journal/000000000.jsonl", b"1")
    before = progress.changed
    assert progress.wait(lambda: progress.changed > before, 5) == "reached"
    assert launch.processes("sleep 60") == [process.pid]
    send(process.pid, signal.SIGKILL)
    assert progress.wait(lambda: False, 5) == "ended"
    assert launch.code == -signal.SIGKILL


def test_the_shifted_clock_changes_wall_clock_time_only(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    clock.set(-3600)
    program = """
import threading, time
start, wall = time.monotonic(), time.time()
threading.Event().wait(0.2)
print(wall, time.monotonic() - start)
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **clock.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    wall, waited = map(float, result.stdout.split())
    assert -3660 < wall - time.time() < -3590
    assert 0.2 <= waited < 5


ISOLATED = """
import os, subprocess, sys, tempfile, time
from pathlib import Path
sys.path.append({tests!r})
from support.isolated_program import isolated_folder, run_isolated
folder = isolated_folder()
if folder is None:
    sys.exit(run_isolated([__file__], Path(__file__).parent))
from support.disturbed_launches import Disk, Memory, command_lines
from support.study_defects import Defects, Surroundings
import support.study_defects as counted
counted.MAX_WAIT_S = 0.5
surroundings = Surroundings()
disk = Disk(folder / "disk")
(folder / "disk" / "first").write_bytes(bytes(5000))
disk.fill()
try:
    (folder / "disk" / "second").write_bytes(bytes(10**6))
    sys.exit("the disk is not full")
except OSError as error:
    assert error.errno == 28, error
disk.free()
(folder / "disk" / "second").write_bytes(bytes(10**6))
memory = Memory(folder)
memory.take()
assert "MemAvailable: 0 kB" in " ".join(Path("/proc/meminfo").read_text().split())
memory.free()
assert "MemAvailable: 0 kB" not in " ".join(Path("/proc/meminfo").read_text().split())
assert len(command_lines()) == 2, command_lines()
(folder / "disk" / ".plan.json.0123abcd").touch()
Path(tempfile.mkdtemp(prefix="rs-ray-"))
subprocess.Popen(["sleep", "60"], start_new_session=True)
while len(command_lines()) < 3:  # its command line is empty for a moment
    time.sleep(0.01)
defects = Defects()
surroundings.count_left(defects, {{1}}, [folder / "disk"])
assert len(defects.found["left behind"]) == 3, defects
sys.exit(7)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_an_isolated_program_has_its_own_disk_and_memory(
    tmp_path: Path,
) -> None:
    program = tmp_path / "isolated.py"
    program.write_text(ISOLATED.format(tests=str(Path(__file__).parents[1])))
    result = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 7, result.stdout + result.stderr
