"""What several commands share: options, and where they print."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

STUDIES = "studies"
FILE_WIDTH = 160
StudiesOption = Annotated[
    str,
    typer.Option(
        help="The folder of all studies: a path or an fsspec address such as s3://bucket/studies.",
        envvar="RAYSEARCH_STUDIES",
    ),
]


def make_console(stderr: bool = False) -> Console:
    """A console as wide as the terminal; wide enough for tables where there is none."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=FILE_WIDTH)
