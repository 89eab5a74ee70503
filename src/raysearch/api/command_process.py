"""Runs a command of raysearch in a process of its own, with errors as exceptions.

Ray, MLflow and torch change the process that they are in: signal handlers, threads, environment.
A notebook keeps its own process as it is, also if Ray ends the command.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from raysearch.cli.launch_log import ERROR_START
from raysearch.errors import StudyError
from raysearch.search.study.remote_view import LINE_START

# The last lines of a command that ended without a message, and the characters of each.
NUM_LAST_LINES, MAX_LINE = 20, 500
NO_VARIABLES: Mapping[str, str] = {}
# With these, rich takes a pipe for a terminal. Jupyter's kernel has the first one.
TERMINAL_VARIABLES = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
# The exit codes of a command that a signal interrupted, and that has saved its state.
INTERRUPTED_CODES = {
    128 + number: number.name for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
}


def run_command(
    arguments: Sequence[str],
    on_line: Callable[[str], None] = lambda _line: None,
    variables: Mapping[str, str] = NO_VARIABLES,
) -> None:
    """Run `raysearch` with `arguments` to its end.

    An interrupt, such as Ctrl-C, is passed on to the command, which saves its state. Further ones
    are ignored until it has ended. Python raises an interrupt in its main thread only.

    Args:
        arguments: The command and its options.
        on_line: Called with each line that the command prints.
        variables: Environment variables of the command, beside those of this process.

    Raises:
        StudyError: With the message of the command if it fails.
        KeyboardInterrupt: If it is interrupted, after it has ended.
    """
    kept = {name: value for name, value in os.environ.items() if name not in TERMINAL_VARIABLES}
    process = subprocess.Popen(  # noqa: S603 no shell
        # The working folder is not on its search path: a file there would replace a module.
        [sys.executable, "-P", "-m", "raysearch", *arguments],
        env={**kept, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # the interrupt of a terminal reaches this process only
    )
    output = _Output(process)
    with process:
        try:
            output.read(on_line)
        except BaseException as interrupt:  # also an error of `on_line`
            output.interrupt()
            for error in output.errors:
                interrupt.add_note(error)
            raise
    if process.returncode != 0:
        raise StudyError(output.message())


class _Output:
    """What a command prints.

    Attributes:
        errors: The messages of its errors.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._last_lines: deque[str] = deque(maxlen=NUM_LAST_LINES)
        self.errors: list[str] = []

    def read(self, on_line: Callable[[str], None]) -> None:
        """Read all lines until the command has ended."""
        for ended_line in self._process.stdout or ():
            line = ended_line.rstrip("\n")
            if line.startswith(ERROR_START):
                self.errors.append(line.removeprefix(ERROR_START))
            elif not line.startswith(LINE_START):
                self._last_lines.append(line[:MAX_LINE])
            on_line(line)
        self._process.wait()

    def interrupt(self) -> None:
        """Interrupt the command, and wait until it has saved its state and ended."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)
        while self._process.returncode is None:
            with suppress(KeyboardInterrupt):
                self.read(lambda _line: None)

    def message(self) -> str:
        """Return why the command failed."""
        if self.errors:
            return "\n".join(self.errors)
        code = self._process.returncode
        if code in INTERRUPTED_CODES:
            return f"the command was interrupted by {INTERRUPTED_CODES[code]}; its state is saved"
        if code < 0:
            return f"the command was ended by {signal.Signals(-code).name}"
        return "\n".join(self._last_lines) or f"the command ended with exit code {code}"
