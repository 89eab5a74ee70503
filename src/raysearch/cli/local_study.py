"""Follows and stops a study whose folder this machine can read, by its journal and its lock."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from raysearch.cli.live_table import LiveView
from raysearch.cli.study_state import StudySummary, current_state
from raysearch.cli.time_text import time_left_text
from raysearch.data.child_processes import PROC
from raysearch.errors import StudyError
from raysearch.search.journal.events import Event
from raysearch.search.journal.followed_journal import FollowedJournal
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.launcher_lock import running_launcher
from raysearch.search.study.lease_lock import Holder
from raysearch.search.study.remote_view import RemoteStudyView
from raysearch.search.study.stored_study import read_plan
from raysearch.search.study.study_command import study_command

POLL_S = 1.0
# A launcher saves its state within 30 s of a signal, and then leaves Ray.
STOP_TIMEOUT_S = 120.0
# The program of a launcher is one of the first words of its command line: `raysearch`, or
# `python -m raysearch`, with a few options of Python.
PROGRAM, MAX_WORDS = "raysearch", 8
# The commands that hold the lock of a study.
LAUNCHING = frozenset(("launch", "select"))
# A process that has ended releases its lock, or is a process of another container.
RELEASE_TIMEOUT_S = 5.0


def local_study(studies: str, name: str) -> StudyFolder:
    """Return the folder of the study `name`, which may be starting.

    Raises:
        StudyError: If there is no such study.
    """
    folder = StudyFolder(f"{studies}/{name}")
    if not folder.exists(folder.PLAN) and running_launcher(folder) is None:
        raise StudyError(
            f"no study {name!r} in {folder.address.rpartition('/')[0]}; `raysearch studies` lists"
            " them, and --on PLACE names the cluster of a study that runs on one"
        )
    return folder


def follow(folder: StudyFolder, console: Console) -> int:
    """Show the live table of the study in `folder` until no launcher runs it any more.

    Ctrl-C leaves the study running; the exit code is then 0.
    """
    try:
        launcher = running_launcher(folder)
        with LiveView(console, is_local=launcher is not None and launcher.is_here) as view:
            if await_plan(folder, view.on_status, _pause):
                _follow_journal(folder, view)
    except KeyboardInterrupt:
        command = study_command("attach", folder)
        text = f"{folder.name} is still running. Follow it with: {command}"
    else:
        text = end_text(folder)
    console.print(text, soft_wrap=True, markup=False, highlight=False)
    return 0


def await_plan(
    folder: StudyFolder, on_status: Callable[[str], None], pause: Callable[[], bool]
) -> bool:
    """Wait until the launcher has stored the plan; return whether it has.

    Args:
        folder: Folder of the study.
        on_status: Called with a line that names the launcher.
        pause: Waits a moment; returns whether to wait further.
    """
    shown = None
    while not folder.exists(folder.PLAN):
        launcher = running_launcher(folder)
        if launcher is None:
            return folder.exists(folder.PLAN)
        if launcher != shown:
            shown = launcher
            on_status(f"{folder.name}: starting as {launcher}")
        if not pause():
            return False
    return True


def new_events(folder: StudyFolder, pause: Callable[[], bool]) -> Iterator[Sequence[Event]]:
    """Yield the events of the journal, then those that a launcher has appended after each pause.

    It ends when no launcher runs the study any more.

    Args:
        folder: Folder of the study.
        pause: Waits a moment; returns whether to go on.
    """
    journal = FollowedJournal(folder / folder.JOURNAL)
    is_running = True
    while is_running:
        # The lock is read first: the last events are read after their launcher has ended.
        is_running = running_launcher(folder) is not None
        yield journal.new_events()
        is_running = is_running and pause()


def _pause() -> bool:
    time.sleep(POLL_S)
    return True


def _follow_journal(folder: StudyFolder, view: LiveView) -> None:
    study = RemoteStudyView(read_plan(folder))
    view.on_study(study)
    view.on_status(f"following {folder.name}")
    for events in new_events(folder, _pause):
        for event in events:
            study.apply(event)


def state_text(folder: StudyFolder, study: StudySummary) -> str:
    """Return in one line where the study in `folder` stands, and what can be done next."""
    if study.state == "starting":
        return f"{study.name}: starting as {study.launcher}"
    trials = ", ".join(f"{number} {state}" for state, number in study.trials.items())
    counts = f"{study.num_started} of {study.num_planned} trials ({trials or 'none yet'})"
    if study.excluded:
        counts += f", without {', '.join(study.excluded)}"
    if study.state == "running":
        if study.remaining is not None:
            counts += f"; {time_left_text(study.remaining)}"
        slow = "".join(f"; {host}" for host in study.slow_hosts)
        return f"{study.name}: running as {study.launcher}; {counts}{slow}"
    if study.state == "ended":
        return (
            f"{study.name}: ended; {counts}; champion {study.champion}. See:"
            f" {study_command('results', folder)}"
        )
    return (
        f"{study.name}: interrupted; {counts}. To resume it, add to its launch command: --name"
        f" {study.name} --resume"
    )


def end_text(folder: StudyFolder) -> str:
    """Return in one line where the study stands whose launcher has ended."""
    if not folder.exists(folder.PLAN) and running_launcher(folder) is None:
        return f"{folder.name}: its launcher ended before the study was stored; launch it again"
    return state_text(folder, current_state(folder)[0])


def stop(folder: StudyFolder) -> str:
    """End the launcher of the study in `folder` by SIGTERM, upon which it saves its state.

    Returns:
        In one line, how it ended.

    Raises:
        StudyError: If its launcher runs on another machine, or as another account, or goes on.
    """
    holder = running_launcher(folder)
    if holder is None:
        return end_text(folder)

    def has_ended() -> bool:
        return running_launcher(folder) != holder

    if not _signal_launcher(holder):
        if holder.is_here and _wait(has_ended, RELEASE_TIMEOUT_S):
            return end_text(folder)
        problem = (
            "which this account and container cannot stop; run this command in its own"
            if holder.is_here
            else "which this machine cannot stop; run this command there"
        )
        raise StudyError(f"study {folder.name!r} is being run by {holder}, {problem}")
    if not _wait(has_ended, STOP_TIMEOUT_S):
        raise StudyError(
            f"{holder} has not ended {STOP_TIMEOUT_S:.0f} s after SIGTERM; see the log in"
            f" {folder.path(folder.LOGS)}, or kill it: the reported fold-epochs are saved"
        )
    return end_text(folder)


def _signal_launcher(holder: Holder) -> bool:
    """Send SIGTERM to `holder`; return False if it is no launcher of this machine and account.

    A lock may name any process: its holder may run in a container, with other process numbers, and
    whoever can write to the folder of the studies can write a lease.
    """
    if not holder.is_here or not _is_launcher(holder.pid):
        return False
    try:
        os.kill(holder.pid, signal.SIGTERM)
    except (PermissionError, ProcessLookupError):
        return False
    return True


def _is_launcher(pid: int) -> bool:
    """Whether the process runs a command that launches, as this account."""
    if not PROC.is_dir():  # no Linux
        return pid > 1
    process = PROC / str(pid)
    try:
        is_own = process.stat().st_uid == os.geteuid()
        words = os.fsdecode((process / "cmdline").read_bytes()).split("\0")
    except OSError:  # it has ended
        return False
    names = [Path(word).name for word in words]
    return is_own and PROGRAM in names[:MAX_WORDS] and not LAUNCHING.isdisjoint(names)


def _wait(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S / 4)
    return True
