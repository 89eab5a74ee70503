"""What several commands share: options, and where they print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

STUDIES = "studies"
# What a launcher says that was asked to stop; `raysearch stop` looks for it in the launch's log.
STOPPED = "Stopped; all is saved"
FILE_WIDTH = 160
StudiesOption = Annotated[
    str,
    typer.Option(
        help="The folder of all studies: a path or an fsspec address such as s3://bucket/studies.",
        envvar="RAYSEARCH_STUDIES",
    ),
]
ClusterOption = Annotated[
    Path,
    typer.Option(help="The file that `ray up` was given.", envvar="RAYSEARCH_CLUSTER"),
]
CLUSTER = Path("cluster.yaml")
StudyArgument = Annotated[str, typer.Argument(help="The study's name.")]


def given(context: typer.Context, option: str) -> str | None:
    """What the command line itself says of `option`; None where it is the environment's."""
    source = context.get_parameter_source(option)
    here = source is not None and source.name == "COMMANDLINE"
    return str(context.params[option]) if here else None


def make_console(stderr: bool = False) -> Console:
    """A console as wide as the terminal; wide enough for tables where there is none."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=FILE_WIDTH)
