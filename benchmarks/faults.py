"""What is left of a study after each error: something is killed, the study is resumed and counted.

    uv run python benchmarks/errors.py [FAULT ...]

For each error a study of eight trials is launched here, the thing is killed once it has reported
twelve fold-epochs, and `raysearch launch --resume` ends the study. One line an error goes to the
standard error: what was killed and when, how the launcher ended, and what the journal holds then.
The value is the number of things that are wrong, over all errors: trials and fold-epochs that are
missing or there twice, trials without one end, a missing champion, a wrong exit code, and
processes that are left. A study that cannot be resumed counts as all of its trials.
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

from raysearch.search.journal.journal import Event, Journal
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.study import read_history

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
class Error:
    """What is sent to which processes of a launch, and the exit code that is due; None for any.

    They are named by a word of their command line; none is the launcher, and "group" is all that a
    terminal sends a Ctrl-C to.
    """

    word: str
    how: signal.Signals
    code: int | None = None


ERRORS = {
    "the launcher": Error("", signal.SIGKILL),
    "Ctrl-C": Error("group", signal.SIGINT, 130),
    "SIGTERM": Error("", signal.SIGTERM, 143),
    "every trial's process": Error("ray::ImplicitFunc", signal.SIGKILL, 0),
    "Ray's head (GCS)": Error("gcs_server", signal.SIGKILL),
    "Ray's node (raylet)": Error("raylet/raylet", signal.SIGKILL),
}


@contextmanager
def launch(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A launch in a session of its own, of which nothing is left afterwards."""
    raysearch = Path(sys.executable).with_name("raysearch")
    with subprocess.Popen(
        [str(raysearch), "launch", "errors.yaml", "--studies", str(folder / "studies"), *words],
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


def kill(pid: int, how: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(pid, how)


def processes(session: int, word: str) -> Iterator[int]:
    """The processes of a launch whose command line has `word`."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes()  # empty once it has ended
            if line and word.encode() in line and os.getsid(int(path.name)) == session:
                yield int(path.name)
        except OSError:
            continue  # it has ended meanwhile


def told(study: StudyFolder) -> list[Event]:
    """What the journal of `study` holds; nothing while there is none."""
    return Journal(study / study.JOURNAL).events if study.exists(study.JOURNAL) else []


def reports(events: list[Event]) -> list[tuple[str, int]]:
    found = [one for one in events if one["event"] == "report" and one["trial"][0] == "t"]
    return [(one["trial"], one["epoch"]) for one in found]


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + MAX_S
    while not condition():
        if time.monotonic() > until:
            raise SystemExit("the study does not get on")
        time.sleep(0.1)


def wrong(study: StudyFolder) -> tuple[int, str]:
    """How many trials and fold-epochs are missing or there twice, and the counts in words."""
    events, history = told(study), read_history(study)
    counted, trials = Counter(reports(events)), history.searched()
    due = {(one.id, epoch) for one in trials for epoch in range(1, one.epoch + 1)}
    ended = Counter(one["trial"] for one in events if one["event"] == "end")
    counts = (
        abs(TRIALS - len(trials)),
        sum(count - 1 for count in counted.values()) + len(due - set(counted)),
        sum(one.status not in ("finished", "stopped") or ended[one.id] != 1 for one in trials),
        0 if history.champion else 1,
    )
    words = f"{len(trials)} trials, {len(counted)} fold-epochs, champion {history.champion}"
    return sum(counts), words


def last_line(said: str) -> str:
    return next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "nothing")


def suffer(error: str, folder: Path) -> tuple[int, str]:
    """Kill, resume, count: what is wrong, and a line that says it."""
    asked = ERRORS[error]
    (folder / "errors.yaml").write_text(SPACE)
    study = StudyFolder(folder / "studies" / "errors")
    began = time.monotonic()
    with launch(folder) as first:
        wait_for(lambda: first.poll() is not None or len(reports(told(study))) >= KILL_AFTER)
        if first.poll() is not None:
            raise SystemExit(f"{error}: the study had ended before\n{first.communicate()[0]}")
        killed = time.monotonic()
        strike(error, first.pid)
        said = first.communicate(timeout=MAX_S)[0]
        ended = time.monotonic()
        left = settled(first.pid)
    before = set(reports(told(study)))
    resumed = first.returncode != 0
    if resumed:
        with launch(folder, "--resume") as again:
            more = again.communicate(timeout=MAX_S)[0]
            left += settled(again.pid)
        if again.returncode:
            return TRIALS, f"{error}: {said}{more}"
    found, words = wrong(study)
    found += len(before - set(reports(told(study)))) + left
    found += asked.code is not None and first.returncode != asked.code
    return found, (
        f"{error}, after {killed - began:.0f} s: exit {first.returncode} {ended - killed:.1f} s"
        f" later, {len(before)} fold-epochs saved,"
        f" {left} processes left; {'resumed' if resumed else 'went on'}: {words};"
        f" {found} wrong; it said: {last_line(said)}"
    )


def strike(error: str, launcher: int) -> None:
    """Send what the error says to whom it says."""
    word, how = ERRORS[error].word, ERRORS[error].how
    if word == "group":
        os.killpg(launcher, how)
        return
    victims = list(processes(launcher, word)) if word else [launcher]
    if not victims:
        raise SystemExit(f"{error}: no such process to kill")
    for pid in victims:
        kill(pid, how)


def settled(session: int) -> int:
    """How many processes of a launch are left once they had `SETTLE_S` to end; told by name."""
    began = time.monotonic()
    while (left := list(processes(session, ""))) and time.monotonic() < began + SETTLE_S:
        time.sleep(0.5)
    sys.stderr.write(f"  its last process ended {time.monotonic() - began:.0f} s after it\n")
    for pid in left:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            sys.stderr.write(f"  left: {line[:200]}\n")
    return len(left)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("errors", nargs="*", help=f"of {', '.join(ERRORS)}; all without one")
    asked = options.parse_args().errors
    if unknown := [one for one in asked if one not in ERRORS]:
        options.error(f"{unknown[0]!r}: no such error; one of {', '.join(ERRORS)}")
    total = 0
    for error in asked or ERRORS:
        with tempfile.TemporaryDirectory() as folder:
            found, words = suffer(error, Path(folder))
        total += found
        sys.stderr.write(f"{words}\n")
    print(
        json.dumps(
            {
                "benchmark": "errors",
                "value": total,
                "unit": "things wrong",
                "peer": None,
                "ratio": None,
                "goal": "0",
                "pass": total == 0,
            }
        )
    )


if __name__ == "__main__":
    main()
