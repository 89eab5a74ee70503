"""Lets the signals that end a launch raise an exception, so that its state is saved first."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from raysearch.errors import StudyError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A terminal sends a signal to a process and to its parent, which passes it on: the second one
# must not interrupt the saving of the state.
REPEAT_S = 10.0
# The exit code of a process whose main thread waits for a lost Ray and cannot be interrupted.
RAY_LOST_CODE = 70


class InterruptedStudyError(KeyboardInterrupt):
    """The process received a signal of `SIGNALS`; `signum` is the signal.

    It is a KeyboardInterrupt because Ray swallows every other exception of a signal handler that
    runs while Ray waits. Ray then raises a plain KeyboardInterrupt.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class RayLostError(StudyError):
    """A process of Ray, without which nothing can run, has ended; the message names it."""


class SignalReceiver:
    """The handler of the signals.

    Attributes:
        signum: The first signal that was received; None before.
        loss: What of Ray was lost, which is then the reason of the next signal; None before.
        on_loss: Called with what was lost.
        loss_actions: What is done after a loss if the main thread cannot be interrupted.
        noticed_loss: Set when the main thread is interrupted after a loss.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.loss: str | None = None
        self.on_loss: Callable[[str], None] = lambda _loss: None
        self.loss_actions: list[Callable[[], object]] = []
        self.noticed_loss = threading.Event()
        self._raised_s: float | None = None

    def exit_code(self) -> int:
        """Return the exit code of a process whose main thread cannot leave Ray."""
        return RAY_LOST_CODE if self.signum is None else 128 + self.signum

    def handle(self, signum: int, _frame: FrameType | None) -> None:
        """Raise InterruptedStudyError, unless it was raised a moment ago."""
        if self.loss is not None:
            self.noticed_loss.set()
        elif self.signum is None:
            self.signum = signum
        now = time.monotonic()
        if self._raised_s is not None and now - self._raised_s < REPEAT_S:
            return
        self._raised_s = now
        raise InterruptedStudyError(signum)


@contextmanager
def ignored_signals() -> Iterator[None]:
    """Ignore the signals that are handled, while something must not be interrupted."""
    handlers = {signum: signal.signal(signum, signal.SIG_IGN) for signum in SIGNALS}
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


_receivers: list[SignalReceiver] = []


@contextmanager
def signals_interrupt() -> Iterator[SignalReceiver]:
    """Raise InterruptedStudyError upon a signal; may be nested.

    SIGHUP stays ignored if it is, as under `nohup`.

    Yields:
        What was received; the same object in a nested context.
    """
    receiver = _receivers[-1] if _receivers else SignalReceiver()
    handled = [
        signum
        for signum in SIGNALS
        if signum != signal.SIGHUP or signal.getsignal(signum) is not signal.SIG_IGN
    ]
    previous_handlers = {signum: signal.signal(signum, receiver.handle) for signum in handled}
    _receivers.append(receiver)
    try:
        yield receiver
    except InterruptedStudyError:
        raise
    except KeyboardInterrupt:
        raise InterruptedStudyError(receiver.signum or signal.SIGINT) from None
    finally:
        _receivers.pop()
        for signum, handler in previous_handlers.items():
            signal.signal(signum, handler)


@contextmanager
def done_at_loss(action: Callable[[], object]) -> Iterator[None]:
    """Let another thread do `action` if Ray is lost while the main thread cannot be interrupted.

    Native code of Ray that waits for its cluster does not notice signals.
    """
    actions = _receivers[-1].loss_actions if _receivers else []
    actions.append(action)
    try:
        yield
    finally:
        actions.remove(action)
