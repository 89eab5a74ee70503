"""Runs a command in a child process, and reports its end if the child could not report it.

Native code of Ray ends the process that uses it, without a message, if the cluster does not answer
for a minute. The kernel does the same if memory is exhausted. The parent process outlives both.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from raysearch.cli.error_lines import print_errors
from raysearch.data.child_processes import descendants, end_descendants, set_launcher_pid
from raysearch.search.engine.interrupts import RAY_LOST_CODE, SIGNALS

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
ADVICE, LOSS, END = "advice", "loss", "end"
DEFAULT_ADVICE = "run the same command again"
# The parent process reads the messages at the end, so all of them must fit into the pipe.
MAX_MESSAGE_BYTES = 16_000
# Ray's agents may end by themselves for so long, and are ended then.
GRACE_S = 1.0
TIMEOUT_S = 20.0
SHOW_CURSOR = "\x1b[?25h"


class Supervisor:
    """The connection of a command to its parent process.

    Attributes:
        enabled: Whether `supervise` starts a child process; false within other programs.
    """

    def __init__(self) -> None:
        self.enabled = False
        self._writer: int | None = None

    def supervise(self, advice: str = DEFAULT_ADVICE) -> int | None:
        """Continue in a child process, which ends with this one.

        It is called before any file system is used: threads of their libraries do not exist in the
        child process.

        Args:
            advice: What is saved and what the user does, if the child could not report its end.

        Returns:
            None in the child process. In the parent, the exit code after the end of the child.
        """
        if not self.enabled:
            return None
        reader, writer = os.pipe()
        _process_control(PR_SET_CHILD_SUBREAPER, 1)
        parent = os.getpid()
        earlier = set(descendants(parent))  # of a shell that was replaced by this command
        sys.stdout.flush()
        sys.stderr.flush()
        with _blocked_signals():
            child = os.fork()
            if child:
                os.close(writer)
                _forward_signals(child)
        if child:
            return _await_end(child, reader, earlier, advice)
        _process_control(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended before
            os._exit(1)
        os.close(reader)
        set_launcher_pid(parent)
        self.enabled, self._writer = False, writer
        return None

    def report_advice(self, advice: str) -> None:
        """Tell the parent process, if there is one, what is saved now and what the user does."""
        self._send(ADVICE, advice)

    def report_loss(self, loss: str) -> None:
        """Tell the parent process what was lost, in case that ends this process."""
        self._send(LOSS, loss)

    def report_end(self) -> None:
        """Tell the parent process that this process has reported its end, and ends now."""
        self._send(END, "")

    def _send(self, kind: str, text: str) -> None:
        message = json.dumps({kind: text}).encode() + b"\n"
        if self._writer is not None and len(message) <= MAX_MESSAGE_BYTES:
            with suppress(OSError):
                os.write(self._writer, message)


SUPERVISOR = Supervisor()


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """Block the signals until the parent process can pass them on."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _process_control(option: int, value: int) -> None:
    """Call `prctl`, which only Linux has."""
    with suppress(AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _forward_signals(child: int) -> None:
    """Pass signals on to the child process.

    A terminal sends its signals to both processes. The child ignores the second one.
    """

    def forward(signum: int, _frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, signum)

    for signum in SIGNALS:
        if signum != signal.SIGHUP or signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, forward)


def _await_end(child: int, reader: int, earlier: set[int], advice: str) -> int:
    """Wait for the child process and what it has started; return the exit code.

    Args:
        child: The child process.
        reader: The end of the pipe with its messages.
        earlier: Processes that were there before it, which are left alone.
        advice: What the user does, unless the child has reported other advice.
    """
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            break
        earlier.discard(pid)  # another process may get the number
    end_descendants(GRACE_S, TIMEOUT_S, earlier)
    messages = _read_messages(reader)
    code = os.waitstatus_to_exitcode(status)
    if END in messages or -code in SIGNALS:  # a signal before the child handled signals
        return 128 - code if code < 0 else code
    if code - 128 in SIGNALS:  # it could not leave Ray after a signal
        _print_error(f"interrupted, and Ray did not shut down; {messages.get(ADVICE, advice)}")
        return code
    _print_error(f"{messages.get(LOSS) or _reason(code)}; {messages.get(ADVICE, advice)}")
    return 2


def _read_messages(reader: int) -> dict[str, str]:
    """Return the last message of each kind; one that is incomplete is left out."""
    os.set_blocking(reader, False)
    content = b""
    with suppress(BlockingIOError):
        while part := os.read(reader, 2**16):
            content += part
    messages: dict[str, str] = {}
    for line in content.splitlines():
        with suppress(ValueError):
            messages |= json.loads(line)
    return messages


def _reason(code: int) -> str:
    """Return why the child process ended with `code`, as far as that is known."""
    if code == RAY_LOST_CODE:
        return "Ray's own processes ended, and the command could not be interrupted"
    if code == -signal.SIGKILL:
        return "the command was killed by SIGKILL, as the kernel does if memory is exhausted"
    if code < 0:
        return f"the command crashed with {signal.Signals(-code).name}"
    return (
        f"the command was ended by native code with exit code {code}, as Ray does if the head of"
        " its cluster (GCS) is lost"
    )


def _print_error(message: str) -> None:
    """Print a message in one line, below the live table, which was not removed."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{SHOW_CURSOR}\n")
    print_errors(message.replace("\n", "\\n"))
    sys.stderr.flush()
