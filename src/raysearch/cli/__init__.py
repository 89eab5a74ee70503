"""The command line: the only package that prints or exits."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from importlib.metadata import version
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import typer

from raysearch.cli.command_table import CONTEXT_SETTINGS, LazyGroup
from raysearch.cli.error_lines import print_errors
from raysearch.cli.output_streams import protect_output
from raysearch.cli.supervisor import SUPERVISOR
from raysearch.config.addresses import ALLOW_VARIABLE
from raysearch.config.process_environment import prepare_environment
from raysearch.data.cache_folder import keep_compiled_code_in_cache
from raysearch.data.disk_errors import disk_advice, error_text
from raysearch.data.file_access import PRIVATE_UMASK, process_umask
from raysearch.errors import UserError, without_passwords
from raysearch.search.engine.interrupts import InterruptedStudyError

if TYPE_CHECKING:
    from typer._click import Context


class _SignalGroup(LazyGroup):
    """A group whose commands end with the exit code of the signal that interrupted them."""

    def invoke(self, ctx: Context) -> object:
        """Run the command; typer itself returns 130 for each KeyboardInterrupt."""
        try:
            return super().invoke(ctx)
        except InterruptedStudyError as interrupt:
            return 128 + interrupt.signum


app = typer.Typer(
    cls=_SignalGroup,
    help="Distributed hyperparameter search for breast-histology patch classifiers.",
    no_args_is_help=True,
    context_settings=CONTEXT_SETTINGS,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _print_version(is_requested: bool) -> None:
    if is_requested:
        sys.stdout.write(f"raysearch {version('raysearch')}\n")
        raise typer.Exit


@app.callback()
def raysearch(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
    allow: Annotated[
        bool,
        typer.Option(
            "--allow",
            help="Read data at the remote addresses that a study of another account names.",
        ),
    ] = False,
) -> None:
    """Run one of the commands."""
    if allow:
        os.environ[ALLOW_VARIABLE] = "1"  # for the processes of this command, too


def main() -> None:
    """Run the command of `sys.argv`, and leave the process with its exit code."""
    sys.excepthook = _print_traceback
    prepare_environment()
    keep_compiled_code_in_cache()
    SUPERVISOR.enabled = True
    output = protect_output()
    try:
        code = run(sys.argv[1:])
    except Exception as error:  # of the program
        _print_traceback(type(error), error, error.__traceback__)
        code = 1
    sys.stdout.flush()
    if output.error is not None:
        reason = output.error.strerror
        code = code or print_errors(
            f"standard output: {reason}; the output is incomplete, free some space"
        )
    sys.stderr.flush()
    SUPERVISOR.report_end()
    # The threads of Ray and MLflow have nothing left to do, and could delay the exit.
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line `arguments`; return the exit code.

    Errors of the user are printed, one line an error, and the exit code is 2. The files that
    libraries create are closed to other accounts, too, or shared with the group of `--shared`.
    """
    previous_umask = os.umask(PRIVATE_UMASK)
    try:
        os.umask(process_umask())
        code = app(arguments, prog_name="raysearch", standalone_mode=False)
    except UserError as error:
        code = print_errors(str(error))
    except typer.exceptions.TyperException as error:
        code = print_errors(_usage_error(error)) if str(error) else 2
    except OSError as error:  # for example a full disk, or a folder without permission
        advice = f"{disk_advice(error)}, or choose a path that can be read and written"
        code = print_errors(f"{error_text(error)}; {advice}")
    except (KeyboardInterrupt, typer.Abort):
        code = 128 + signal.SIGINT
    finally:
        os.umask(previous_umask)
    return code if isinstance(code, int) else 0


def _print_traceback(
    kind: type[BaseException], error: BaseException, place: TracebackType | None
) -> None:
    """Print the traceback of an error of the program; libraries repeat addresses in messages."""
    lines = traceback.format_exception(kind, error, place)
    sys.stderr.write(without_passwords("".join(lines)))


def _usage_error(error: Exception) -> str:
    """Return the text of an error in the arguments, and which help to read."""
    text = getattr(error, "format_message", lambda: str(error))()
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "raysearch"
    return f"{' '.join(text.split())} See `{command} --help`."
