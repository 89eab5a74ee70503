"""Measures what a study loses by faults: a process is killed, the study is resumed and counted.

    uv run python benchmarks/faults.py [FAULT ...]

For each fault, a study of eight trials is launched on this machine, the fault is injected once the
study has reported twelve fold-epochs, and `raysearch launch --resume` ends the study. The standard
error shows a line per fault: what was killed and when, how the launcher ended, and what the journal
contains then. The value is the number of defects over all faults: missing and repeated trials and
fold-epochs, trials without exactly one end, a missing champion, a wrong exit code, and processes
that have not ended. A study that cannot be resumed counts as all of its trials.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from raysearch.search.journal.events import Event, FoldReport, TrialEnded
from raysearch.search.journal.journal import Journal
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.stored_study import load_study

TRIALS, EPOCHS, KILL_AFTER, MAX_S = 8, 6, 12, 600
# Ray's agents end by themselves, some time after a node that was killed.
SETTLE_S = 180
SPACE = f"""
data: synthetic:12:480:0
epochs: {EPOCHS}
trials: {TRIALS}
resources: {{cpus: 1}}
space:
  folds: 2
  architecture: cnn
  convolutions: 1
  width: {{choice: [4, 8]}}
  learning_rate: {{loguniform: [1.0e-3, 1.0e-2]}}
  batch_size: 32
"""


@dataclass(frozen=True)
class Fault:
    """A signal to processes of a launch.

    Args:
        word: A word of the processes' command line; empty for the launcher, "group" for the process
            group that a terminal sends Ctrl-C to.
        signal_number: The signal.
        code: The expected exit code of the launcher; None for any.
    """

    word: str
    signal_number: signal.Signals
    code: int | None = None


FAULTS = {
    "the launcher": Fault("", signal.SIGKILL),
    "Ctrl-C": Fault("group", signal.SIGINT, 130),
    "SIGTERM": Fault("", signal.SIGTERM, 143),
    "every trial's process": Fault("ray::ImplicitFunc", signal.SIGKILL, 0),
    "Ray's head (GCS)": Fault("gcs_server", signal.SIGKILL),
    "Ray's node (raylet)": Fault("raylet/raylet", signal.SIGKILL),
}


@contextmanager
def launch(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A launch in a session of its own, of which nothing is left afterwards."""
    raysearch = Path(sys.executable).with_name("raysearch")
    with subprocess.Popen(
        [str(raysearch), "launch", "faults.yaml", "--studies", str(folder / "studies"), *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            for pid in processes(process.pid, ""):
                kill(pid, signal.SIGKILL)


def kill(pid: int, signal_number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(pid, signal_number)


def processes(session: int, word: str) -> Iterator[int]:
    """The processes of a launch whose command line has `word`."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes()  # empty once it has ended
            if line and word.encode() in line and os.getsid(int(path.name)) == session:
                yield int(path.name)
        except OSError:
            continue  # it has ended meanwhile


def journal_events(study: StudyFolder) -> list[Event]:
    """The events of the journal of `study`; none before it exists."""
    return Journal(study / study.JOURNAL).events if study.exists(study.JOURNAL) else []


def reports(events: list[Event]) -> list[tuple[str, int]]:
    return [
        (event.trial, event.epoch)
        for event in events
        if isinstance(event, FoldReport) and event.trial.startswith("t")
    ]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + MAX_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("the study makes no progress")
        time.sleep(0.1)


def count_defects(study: StudyFolder) -> tuple[int, str]:
    """Count missing and repeated trials and fold-epochs; returns the number and a text."""
    events, history = journal_events(study), load_study(study).history
    num_reports, trials = Counter(reports(events)), history.searched()
    expected = {(trial.id, epoch) for trial in trials for epoch in range(1, trial.epoch + 1)}
    num_ends = Counter(event.trial for event in events if isinstance(event, TrialEnded))
    counts = (
        abs(TRIALS - len(trials)),
        sum(count - 1 for count in num_reports.values()) + len(expected - set(num_reports)),
        sum(
            trial.status not in ("finished", "stopped") or num_ends[trial.id] != 1
            for trial in trials
        ),
        0 if history.champion else 1,
    )
    text = f"{len(trials)} trials, {len(num_reports)} fold-epochs, champion {history.champion}"
    return sum(counts), text


def last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "nothing")


def inject(name: str, folder: Path) -> tuple[int, str]:
    """Run a study, inject the fault `name`, resume; returns the number of defects and a line."""
    fault = FAULTS[name]
    (folder / "faults.yaml").write_text(SPACE)
    study = StudyFolder(folder / "studies" / "faults")
    start = time.monotonic()
    with launch(folder) as first:
        wait_for(
            lambda: first.poll() is not None or len(reports(journal_events(study))) >= KILL_AFTER
        )
        if first.poll() is not None:
            raise SystemExit(f"{name}: the study had ended before\n{first.communicate()[0]}")
        killed = time.monotonic()
        send_signal(name, first.pid)
        output = first.communicate(timeout=MAX_S)[0]
        end = time.monotonic()
        num_left = count_left_processes(first.pid)
    reports_before = set(reports(journal_events(study)))
    is_resumed = first.returncode != 0
    if is_resumed:
        with launch(folder, "--resume") as second:
            resume_output = second.communicate(timeout=MAX_S)[0]
            num_left += count_left_processes(second.pid)
        if second.returncode:
            return TRIALS, f"{name}: {output}{resume_output}"
    num_defects, counts = count_defects(study)
    num_defects += len(reports_before - set(reports(journal_events(study)))) + num_left
    num_defects += fault.code is not None and first.returncode != fault.code
    return num_defects, (
        f"{name}, after {killed - start:.0f} s: exit {first.returncode} {end - killed:.1f} s"
        f" later, {len(reports_before)} fold-epochs saved,"
        f" {num_left} processes left; {'resumed' if is_resumed else 'continued'}: {counts};"
        f" {num_defects} defects; last line: {last_line(output)}"
    )


def send_signal(name: str, launcher: int) -> None:
    """Send the signal of the fault `name` to its processes."""
    fault = FAULTS[name]
    if fault.word == "group":
        os.killpg(launcher, fault.signal_number)
        return
    pids = list(processes(launcher, fault.word)) if fault.word else [launcher]
    if not pids:
        raise SystemExit(f"{name}: no such process to kill")
    for pid in pids:
        kill(pid, fault.signal_number)


def count_left_processes(session: int) -> int:
    """Count the processes of a launch that have not ended after `SETTLE_S`, and print them."""
    start = time.monotonic()
    while (pids := list(processes(session, ""))) and time.monotonic() < start + SETTLE_S:
        time.sleep(0.5)
    sys.stderr.write(f"  its last process ended {time.monotonic() - start:.0f} s after it\n")
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            sys.stderr.write(f"  left: {line[:200]}\n")
    return len(pids)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("faults", nargs="*", help=f"of {', '.join(FAULTS)}; all without one")
    names = options.parse_args().faults
    if unknown := [name for name in names if name not in FAULTS]:
        options.error(f"{unknown[0]!r}: no such fault; one of {', '.join(FAULTS)}")
    total = 0
    for name in names or FAULTS:
        with tempfile.TemporaryDirectory() as folder:
            num_defects, line = inject(name, Path(folder))
        total += num_defects
        sys.stderr.write(f"{line}\n")
    print(
        json.dumps(
            {
                "benchmark": "faults",
                "value": total,
                "unit": "defects",
                "peer": None,
                "ratio": None,
                "goal": "0",
                "pass": total == 0,
            }
        )
    )


if __name__ == "__main__":
    main()
