"""Finds secrets in the command lines of processes, and in other texts."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def leaks(words: list[str], texts: dict[str, bytes]) -> list[tuple[str, str]]:
    """The names of `texts` with the words that they contain."""
    return [(name, word) for name, text in texts.items() for word in words if word.encode() in text]


def command_lines() -> dict[str, bytes]:
    """The command lines of all processes of this machine, by number."""
    lines = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                lines[f"command line of {entry.name}"] = (entry / "cmdline").read_bytes()
    return lines
