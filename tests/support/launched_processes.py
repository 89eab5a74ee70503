"""The processes of a launch, and the statuses of its runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from conftest import Commands
from support.launched_studies import runs


def processes(session: int, word: str = "") -> Iterator[int]:
    """The processes of a session whose command line has `word`."""
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            line = (path / "cmdline").read_bytes()  # empty once it has ended
            if line and word.encode() in line and os.getsid(int(path.name)) == session:
                yield int(path.name)


def only_process(session: int, word: str, without: int = 0, timeout_s: float = 30) -> int:
    """The only process of a session, but for `without`, whose command line has `word`.

    Between fork and exec, a child shows the command line of its parent, so this waits until there
    is one.
    """
    until = time.monotonic() + timeout_s
    while len(found := [pid for pid in processes(session, word) if pid != without]) != 1:
        assert time.monotonic() < until, found
        time.sleep(0.1)
    return found[0]


def wait_until_ended(session: int, timeout_s: float = 5) -> None:
    """Wait until the last process of a session has ended."""
    until = time.monotonic() + timeout_s
    while left := list(processes(session)):
        if time.monotonic() > until:
            lines = [Path(f"/proc/{pid}/cmdline").read_bytes().decode() for pid in left]
            pytest.fail(f"left behind: {lines}")
        time.sleep(0.1)


def run_statuses(run: Commands) -> set[str]:
    """The statuses of the runs of the study `small` in MLflow."""
    parent, children, baselines = runs(run)
    return {run.info.status for run in (parent, *children, *baselines)}
