"""Options that several commands have, and the console to which they print."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from raysearch.cli.safe_console import NOTEBOOK_WIDTH, SafeConsole, is_notebook_cell
from raysearch.config.names import DEFAULT_STUDIES, PLACE_VARIABLE, STUDIES_VARIABLE
from raysearch.config.process_environment import remove_terminal_size_of_zero
from raysearch.config.run_location import RemoteCluster, remote_cluster
from raysearch.errors import DataError, StudyError

STUDIES = DEFAULT_STUDIES
STATE_SAVED = "state saved"
# A launcher that was interrupted prints this; `raysearch stop` searches for it in the launch's log.
INTERRUPTED = f"Interrupted; {STATE_SAVED}"
# The width of a console that is no terminal.
FILE_WIDTH = 160
# The trials in a leaderboard.
MAX_ROWS = 20
StudiesOption = Annotated[
    str,
    typer.Option(
        "--studies",
        help="The folder of all studies: a path or an fsspec address such as s3://bucket/studies.",
        envvar=STUDIES_VARIABLE,
    ),
]
OnOption = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="PLACE",
        help="Where the study runs: `local` or `auto` for one in the folder of `--studies`, a file"
        " that `ray up` started, or the address of a Ray dashboard. Default: RAY_ADDRESS if it is"
        " such an address, else `local`.",
        envvar=PLACE_VARIABLE,
    ),
]
StudyArgument = Annotated[str, typer.Argument(help="The study's name.")]
NewestStudyArgument = Annotated[
    str | None, typer.Argument(help="The study's name. Default: the newest study.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
IdentifiersOption = Annotated[
    bool,
    typer.Option(
        "--identifiers",
        help="Show the identifiers of patients, slides and files instead of pseudonyms.",
    ),
]
DepthOption = Annotated[
    int | None,
    typer.Option(
        help="The number of bits, 9 to 16, that images of 16 bits a channel use. They are scaled to"
        " 8 bits; by default, they are rejected."
    ),
]
AllowCodeOption = Annotated[
    bool,
    typer.Option(
        "--allow-code",
        help="Run the code that is stored with the study or the model, such as a network.",
    ),
]
OpenOption = Annotated[bool, typer.Option("--open", help="Open the page in a browser.")]


def trust_stored_code(allow_code: bool) -> None:
    """Let this process run the code of the studies and models that it reads, if it is allowed."""
    if allow_code:
        from raysearch.config.code_importer import CODE_IMPORTER

        CODE_IMPORTER.trust_stored()


def command_line_value(context: typer.Context, option: str) -> str | None:
    """Return the value of `option` on the command line; None if the environment sets it."""
    source = context.get_parameter_source(option)
    is_on_command_line = source is not None and source.name == "COMMANDLINE"
    return str(context.params[option]) if is_on_command_line else None


def chosen_cluster(
    context: typer.Context, on: str | None, takes_both: bool = False
) -> RemoteCluster | None:
    """Return the cluster of an `OnOption`; None if the study is in a folder of this machine.

    An option on the command line takes precedence over a variable of the environment.

    Args:
        context: The options of the command.
        on: The value of the `OnOption`.
        takes_both: Whether the cluster's head reads the folder of `--studies`.

    Raises:
        StudyError: If the option is no place; if the command line has both, and the command does
            not take both.
    """
    studies, place = command_line_value(context, "studies"), command_line_value(context, "on")
    if studies is not None and place is None:
        return None
    cluster = remote_cluster(on)
    if studies is not None and cluster is not None and not takes_both:
        raise StudyError(
            f"--studies {studies} and {cluster.option}: the study is in a folder or on a cluster;"
            " give one of them"
        )
    return cluster


def studies_of_cluster(cluster: RemoteCluster, option: str | None) -> str | None:
    """Return the folder of studies of a cluster: the option, else RAYSEARCH_STUDIES for an address.

    None is the folder that the machines of a cluster file name.
    """
    return option or (os.environ.get(STUDIES_VARIABLE) if cluster.is_address else None)


def make_console(stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, the notebook or `COLUMNS`, else `FILE_WIDTH`."""
    remove_terminal_size_of_zero()
    console = SafeConsole(stderr=stderr)
    has_width = console.is_terminal or "COLUMNS" in os.environ
    width = NOTEBOOK_WIDTH if is_notebook_cell() else FILE_WIDTH
    return console if has_width else SafeConsole(stderr=stderr, width=width)


def check_out_folder(out: Path | None, option: str = "--out") -> None:
    """Raise DataError if the folder of the file that `option` names does not exist."""
    if out is not None and not out.parent.is_dir():
        raise DataError(f"{option} {out}: no folder {out.parent}; create it, or name another")


def open_page(page: Path) -> None:
    """Open a page in the user's browser."""
    import webbrowser

    webbrowser.open(page.resolve().as_uri())
