"""Finds and ends the processes that a process started, as `/proc` of Linux lists them."""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
POLL_S = 0.02
# The process that the user started, for the process that runs the command below it.
_launchers: dict[int, int] = {}


def launcher_pid() -> int:
    """Return the process that the user started, and that passes its signals on to this one."""
    return _launchers.get(os.getpid(), os.getpid())


def set_launcher_pid(pid: int) -> None:
    """Let `launcher_pid` return `pid` in this process; its children have no launcher."""
    _launchers[os.getpid()] = pid


def descendants(pid: int, without: Collection[int] = ()) -> list[int]:
    """Return the children of the process `pid`, their children, and so on.

    Args:
        pid: The process.
        without: Processes that are left out, with all that they have started.
    """
    children = defaultdict(list)
    for entry in PROC.glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            # The name of a process, in parentheses, may contain anything.
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if int(entry.name) not in without:
                children[int(fields[1])].append(int(entry.name))
    pids = list(children[pid])
    for child in pids:  # the list grows meanwhile
        pids += children[child]
    return pids


def is_running(pid: int, name: str) -> bool:
    """Return whether the process `pid` runs the program `name` and has not ended."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return False
    start, _, rest = text.rpartition(")")
    return start.partition("(")[2] == name and rest.split()[0] not in "ZX"


def kill_processes(pids: Iterable[int]) -> None:
    """Send SIGKILL to processes that may have ended."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def end_descendants(grace_s: float, timeout_s: float, without: Collection[int] = ()) -> None:
    """Wait until this process has no descendants; end those that are left after `grace_s`.

    Each child is reaped, so no other code of this process may wait for one.

    Args:
        grace_s: So many seconds, the processes may end by themselves.
        timeout_s: After so many seconds, a process that cannot be ended is left.
        without: Processes that are neither ended nor waited for, with all that they have started.
    """
    start_s = time.monotonic()
    while time.monotonic() - start_s < timeout_s:
        try:
            reaped, _status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:  # none is left
            return
        if reaped:
            continue
        left = descendants(os.getpid(), without)
        if not left:
            return
        if time.monotonic() - start_s >= grace_s:
            kill_processes(left)
        time.sleep(POLL_S)
