"""Options that several commands have, and the console to which they print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from raysearch.errors import DataError

STUDIES = "studies"
# A launcher that was interrupted prints this; `raysearch stop` searches for it in the launch's log.
INTERRUPTED = "Interrupted; state saved"
# The width of a console that is no terminal.
FILE_WIDTH = 160
StudiesOption = Annotated[
    str,
    typer.Option(
        "--studies",
        help="The folder of all studies: a path or an fsspec address such as s3://bucket/studies.",
        envvar="RAYSEARCH_STUDIES",
    ),
]
ClusterOption = Annotated[
    Path,
    typer.Option(help="The cluster file that `ray up` started with.", envvar="RAYSEARCH_CLUSTER"),
]
CLUSTER = Path("cluster.yaml")
StudyArgument = Annotated[str, typer.Argument(help="The study's name.")]
NewestStudyArgument = Annotated[
    str | None, typer.Argument(help="The study's name. Default: the newest study.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OpenOption = Annotated[bool, typer.Option("--open", help="Open the page in a browser.")]


def command_line_value(context: typer.Context, option: str) -> str | None:
    """Return the value of `option` on the command line; None if the environment sets it."""
    source = context.get_parameter_source(option)
    is_on_command_line = source is not None and source.name == "COMMANDLINE"
    return str(context.params[option]) if is_on_command_line else None


def make_console(stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, or as `FILE_WIDTH` if there is none."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=FILE_WIDTH)


def check_out_folder(out: Path | None) -> None:
    """Raise DataError if the folder of the option `--out` does not exist."""
    if out is not None and not out.parent.is_dir():
        raise DataError(f"--out {out}: no folder {out.parent}; create it, or name another")


def open_page(page: Path) -> None:
    """Open a page in the user's browser."""
    import webbrowser

    webbrowser.open(page.resolve().as_uri())
