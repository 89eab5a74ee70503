"""Runs a command of raysearch in a process of its own, with errors as exceptions.

Ray, MLflow and torch change the process that they are in: signal handlers, threads, environment.
A notebook keeps its own process as it is, also if Ray ends the command.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence

from raysearch.cli.launch_log import ERROR_START
from raysearch.errors import StudyError

# The last lines of a command that ended without a message.
NUM_LAST_LINES = 20


def run_command(
    arguments: Sequence[str], on_line: Callable[[str], None] = lambda _line: None
) -> None:
    """Run `raysearch` with `arguments` to its end.

    An interrupt, such as Ctrl-C, is passed on to the command, which saves its state.

    Args:
        arguments: The command and its options.
        on_line: Called with each line that the command prints.

    Raises:
        StudyError: With the message of the command if it fails.
        KeyboardInterrupt: If it is interrupted, after it has ended.
    """
    process = subprocess.Popen(  # noqa: S603 no shell
        [sys.executable, "-m", "raysearch", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # the interrupt of a terminal reaches this process only
    )
    lines: deque[str] = deque(maxlen=NUM_LAST_LINES)
    errors: list[str] = []

    def read_to_the_end() -> None:
        for ended_line in process.stdout or ():
            line = ended_line.rstrip("\n")
            lines.append(line)
            if line.startswith(ERROR_START):
                errors.append(line.removeprefix(ERROR_START))
            on_line(line)

    with process:
        try:
            read_to_the_end()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            read_to_the_end()
            process.wait()
            raise
    if process.returncode != 0:
        raise StudyError("\n".join(errors or lines) or f"exit code {process.returncode}")
