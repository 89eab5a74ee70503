"""The process of a command: its errors, its interrupts, and what it imports."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from raysearch.api.command_process import run_command
from raysearch.errors import StudyError

# A program in place of Python: it waits, and saves its state for a moment when it is interrupted.
WAITING = """#!/bin/sh
trap 'sleep 1; touch saved; echo "raysearch: the disk is full"; exit 2' INT
echo started
while :; do sleep 0.1; done
"""


def program(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands run a program in `folder` instead of Python."""
    path = folder / "program"
    path.write_text(text)
    path.chmod(0o755)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "executable", str(path))


def test_further_interrupts_wait_until_the_command_has_saved_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, WAITING, monkeypatch)
    threads: list[threading.Thread] = []

    def interrupt_twice(line: str) -> None:
        def send() -> None:
            for _number in range(2):
                time.sleep(0.3)
                os.kill(os.getpid(), signal.SIGINT)

        if line == "started":
            threads.append(threading.Thread(target=send))
            threads[0].start()

    with pytest.raises(KeyboardInterrupt) as caught:
        run_command(["launch"], interrupt_twice)
    threads[0].join()
    assert (tmp_path / "saved").exists()
    assert caught.value.__notes__ == ["the disk is full"]


def test_an_error_while_a_line_is_processed_interrupts_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, WAITING, monkeypatch)

    def fail(_line: str) -> None:
        raise RuntimeError("the view failed")

    with pytest.raises(RuntimeError, match="the view failed"):
        run_command(["launch"], fail)
    assert (tmp_path / "saved").exists()


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("kill -KILL $$", "the command was ended by SIGKILL"),
        ("exit 143", "the command was interrupted by SIGTERM; its state is saved"),
        ("echo 'Usage: raysearch'; exit 2", "Usage: raysearch"),
        ("exit 3", "the command ended with exit code 3"),
    ],
)
def test_the_message_of_a_command_has_no_lines_of_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, message: str
) -> None:
    text = f"""#!/bin/sh\necho '{{"raysearch": "status", "content": "x"}}'\n{end}\n"""
    program(tmp_path, text, monkeypatch)
    with pytest.raises(StudyError) as caught:
        run_command(["launch"])
    assert str(caught.value) == message


def test_a_command_does_not_take_its_pipe_for_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel of Jupyter sets FORCE_COLOR."""
    program(tmp_path, '#!/bin/sh\necho "<$FORCE_COLOR$TTY_COMPATIBLE>$COLUMNS"\n', monkeypatch)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("COLUMNS", "90")
    lines: list[str] = []
    run_command(["launch"], lines.append)
    assert lines == ["<>90"]


def test_a_file_in_the_working_folder_replaces_no_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("typer", "yaml", "types"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')\n")
    lines: list[str] = []
    run_command(["--version"], lines.append)
    assert len(lines) == 1
    assert lines[0].startswith("raysearch ")
