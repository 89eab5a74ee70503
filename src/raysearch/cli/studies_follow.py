"""`raysearch studies export --follow`: an Optuna journal that follows a running study."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from raysearch.cli.local_study import POLL_S, await_plan, new_events
from raysearch.search.journal.history import History
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.sampling.optuna_export import ExportedStudy
from raysearch.search.sampling.optuna_journal import optuna_journal
from raysearch.search.study.stored_study import read_plan

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class FollowedExport:
    """How a followed export ended.

    Args:
        num_trials: The trials in the file; None if a signal came before the first update.
        signum: The signal that ended it; None if no launcher runs the study any more.
    """

    num_trials: int | None
    signum: int | None


def follow_export(
    folder: StudyFolder, out: Path, on_status: Callable[[str], None]
) -> FollowedExport:
    """Keep the Optuna journal `out` up to date until no launcher runs the study any more.

    A signal ends it between two updates, so that the file is complete. A second one ends it at
    once.

    Args:
        folder: Folder of the study, which may be starting.
        out: The file; one of an earlier call for this study is continued.
        on_status: Called with lines for the user.

    Raises:
        StudyError: If the study or the file cannot be read, or the file is not of this study.
    """
    history, is_updated = History(), False
    with _noted_signals() as signals:
        if not await_plan(folder, on_status, signals.pause) and not signals.signum:
            read_plan(folder)  # raises an error: there is no study
        if signals.signum:
            return FollowedExport(None, signals.signum)
        plan = read_plan(folder)
        exported = ExportedStudy(plan.name, plan.space, plan.fingerprint, plan.identity, history)
        with optuna_journal(exported, out) as journal:
            on_status(f"Following {plan.name}. See: optuna-dashboard {out}")
            for events in new_events(folder, signals.pause):
                for event in events:
                    history.apply(event)
                if events:
                    journal.update()
                    is_updated = True
    return _end(len(history.searched()), is_updated, signals.signum)


def _end(num_trials: int, is_updated: bool, signum: int | None) -> FollowedExport:
    is_known = is_updated or signum is None
    return FollowedExport(num_trials if is_known else None, signum)


class _NotedSignals:
    """The signals that have been received since `_noted_signals`.

    Attributes:
        signum: The first one; None before.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._received = threading.Event()
        handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._handlers = {number: signal.signal(number, self._handle) for number in handled}

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        """Note a signal; the next one has its usual effect."""
        self.signum = self.signum or signum
        self._received.set()
        self.restore_handlers()

    def restore_handlers(self) -> None:
        """Handle signals as before."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def pause(self) -> bool:
        """Wait a moment, or until a signal; return whether none was received."""
        return not self._received.wait(POLL_S)


@contextmanager
def _noted_signals() -> Iterator[_NotedSignals]:
    """Note the first signal in place of being interrupted by it; SIGHUP stays ignored if it is."""
    signals = _NotedSignals()
    try:
        yield signals
    finally:
        signals.restore_handlers()
