"""What is left of a study after each fault: something is killed, the study is resumed and counted.

    uv run python benchmarks/faults.py [FAULT ...]

For each fault a study of eight trials is launched here, the thing is killed once it has reported
twelve fold-epochs, and `raysearch launch --resume` ends the study. One line a fault goes to the
standard error: what was killed and when, how the launcher ended, and what the journal holds then.
The value is the number of trials and fold-epochs that are missing or there twice, over all faults.
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
from pathlib import Path

from raysearch.search.folder import StudyFolder
from raysearch.search.journal import Event, Journal
from raysearch.search.study import read_history

TRIALS, EPOCHS, KILL_AFTER, MOST_S = 8, 6, 12, 600
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
# What is killed -> the processes of the launch, by a word of their command line, and how.
FAULTS: dict[str, tuple[str, signal.Signals]] = {
    "the launcher": ("", signal.SIGKILL),
    "Ctrl-C": ("", signal.SIGINT),
    "SIGTERM": ("", signal.SIGTERM),
    "every trial's process": ("ray::ImplicitFunc", signal.SIGKILL),
    "Ray's head (GCS)": ("gcs_server", signal.SIGKILL),
    "Ray's node (raylet)": ("raylet/raylet", signal.SIGKILL),
}


def launch(folder: Path, *words: str) -> subprocess.Popen[str]:
    raysearch = Path(sys.executable).with_name("raysearch")
    return subprocess.Popen(
        [str(raysearch), "launch", "faults.yaml", "--studies", str(folder / "studies"), *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def processes(session: int, word: str) -> Iterator[int]:
    """The processes of a launch whose command line has `word`."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            named = word.encode() in (path / "cmdline").read_bytes()
            if named and os.getsid(int(path.name)) == session:
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
    until = time.monotonic() + MOST_S
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


def suffer(fault: str, folder: Path) -> tuple[int, str]:
    """Kill, resume, count: what is wrong, and a line that says it."""
    word, how = FAULTS[fault]
    (folder / "faults.yaml").write_text(SPACE)
    study = StudyFolder(folder / "studies" / "faults")
    began = time.monotonic()
    first = launch(folder)
    wait_for(lambda: first.poll() is not None or len(reports(told(study))) >= KILL_AFTER)
    if first.poll() is not None:
        raise SystemExit(f"{fault}: the study had ended before\n{first.communicate()[0]}")
    victims = list(processes(first.pid, word)) if word else [first.pid]
    if not victims:
        raise SystemExit(f"{fault}: no such process to kill")
    killed = time.monotonic()
    for pid in victims:
        os.kill(pid, how)
    said = first.communicate(timeout=MOST_S)[0]
    ended = time.monotonic()
    before = set(reports(told(study)))
    resumed = first.returncode != 0
    if resumed:
        again = launch(folder, "--resume")
        more = again.communicate(timeout=MOST_S)[0]
        if again.returncode:
            return 1, f"{fault}: {said}{more}"
    left = sum(1 for _pid in processes(first.pid, ""))
    found, words = wrong(study)
    found += len(before - set(reports(told(study))))
    return found + left, (
        f"{fault}, after {killed - began:.0f} s: exit {first.returncode} {ended - killed:.1f} s"
        f" later, {len(before)} fold-epochs saved,"
        f" {left} processes left; {'resumed' if resumed else 'went on'}: {words};"
        f" {found} wrong; it said: {last_line(said)}"
    )


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("faults", nargs="*", help=f"of {', '.join(FAULTS)}; all without one")
    asked = options.parse_args().faults
    if unknown := [one for one in asked if one not in FAULTS]:
        options.error(f"{unknown[0]!r}: no such fault; one of {', '.join(FAULTS)}")
    total = 0
    for fault in asked or FAULTS:
        with tempfile.TemporaryDirectory() as folder:
            found, words = suffer(fault, Path(folder))
        total += found
        sys.stderr.write(f"{words}\n")
    print(
        json.dumps(
            {
                "benchmark": "faults",
                "value": total,
                "unit": "trials and fold-epochs missing or twice",
                "peer": None,
                "ratio": None,
                "goal": "0",
                "pass": total == 0,
            }
        )
    )


if __name__ == "__main__":
    main()
