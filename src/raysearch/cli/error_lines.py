"""Prints errors on standard error, one line an error, without secrets and control characters."""

from __future__ import annotations

import sys

from raysearch.errors import without_passwords
from raysearch.printable_text import printable


def print_errors(message: str) -> int:
    """Print each line of `message`, which is one error a line; return the exit code."""
    lines = printable(without_passwords(message)).split("\n")
    lines = [" ".join(line.split()) for line in lines]
    sys.stderr.writelines(f"raysearch: {line}\n" for line in lines if line)
    return 2
