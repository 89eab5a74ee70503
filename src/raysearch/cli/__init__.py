"""The command line: the only package that prints or exits."""

from __future__ import annotations

import os
import sys

import typer

from raysearch.cli.command_table import LazyGroup
from raysearch.errors import UserError

app = typer.Typer(
    cls=LazyGroup,
    help="Distributed hyperparameter search for breast-histology patch classifiers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback()
def raysearch() -> None:
    """Run one of the commands."""


def main() -> None:
    """Run the command of `sys.argv`, and leave the process with its exit code."""
    code = run(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # The threads of Ray and MLflow have nothing left to do, and could delay the exit.
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line `arguments`; return the exit code.

    Errors of the user are printed, one line an error, and the exit code is 2.
    """
    try:
        code = app(arguments, prog_name="raysearch", standalone_mode=False)
    except UserError as error:
        code = _print_errors(str(error))
    except typer.exceptions.TyperException as error:
        code = _print_errors(_usage_error(error)) if str(error) else 2
    except OSError as error:  # for example a full disk, or a folder without permission
        path = f"{error.filename}: " if error.filename else ""
        advice = "free some space, or choose a path that can be read and written"
        code = _print_errors(f"{path}{error.strerror or error}; {advice}")
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    return code if isinstance(code, int) else 0


def _print_errors(message: str) -> int:
    """Print each line of `message`, which is one error a line; return the exit code."""
    lines = [" ".join(line.split()) for line in message.splitlines()]
    sys.stderr.writelines(f"raysearch: {line}\n" for line in lines if line)
    return 2


def _usage_error(error: Exception) -> str:
    """Return the text of an error in the arguments, and which help to read."""
    text = getattr(error, "format_message", lambda: str(error))()
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "raysearch"
    return f"{' '.join(text.split())} See `{command} --help`."
