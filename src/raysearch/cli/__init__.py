"""The door: one file a command. The only room that prints or exits."""

from __future__ import annotations

import os
import sys

import typer

from raysearch.cli.attach import attach
from raysearch.cli.compare import compare
from raysearch.cli.doctor import doctor
from raysearch.cli.evaluate import evaluate
from raysearch.cli.harvest import harvest
from raysearch.cli.inspect import inspect
from raysearch.cli.launch import launch
from raysearch.cli.predict import predict
from raysearch.cli.replay import replay
from raysearch.cli.report import report
from raysearch.cli.results import results
from raysearch.cli.select import select
from raysearch.cli.shard import shard
from raysearch.cli.split import split
from raysearch.cli.status import status
from raysearch.cli.stop import stop
from raysearch.cli.test import test
from raysearch.cli.ui import ui
from raysearch.cli.weights import weights
from raysearch.errors import UserError

app = typer.Typer(
    help="Distributed hyperparameter search for breast-histology patch classifiers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
COMMANDS = (
    *(harvest, shard, inspect, split, launch, results, select, compare, replay),
    *(test, evaluate, predict, report),
    *(weights, ui),
    *(attach, status, stop, doctor),
)
for command in COMMANDS:
    needs_no_words = command in (results, select, report, ui, status, doctor)
    app.command(no_args_is_help=not needs_no_words)(command)


def main() -> None:
    """The console script: run the command, and leave with its exit code."""
    code = run(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Ray's and MLflow's threads have nothing left to do, and could hold up the exit.
    os._exit(code)


def run(words: list[str]) -> int:
    """Run the command `words`; an error of the user's is one line, and the exit code 2."""
    try:
        code = app(words, standalone_mode=False)
    except UserError as error:
        code = _reject(str(error))
    except typer.exceptions.TyperException as error:
        code = _reject(_usage(error)) if str(error) else 2
    except OSError as error:  # a disk that is full, a folder that is not ours
        where = f"{error.filename}: " if error.filename else ""
        advice = "make room, or choose a place that can be read and written"
        code = _reject(f"{where}{error.strerror or error}; {advice}")
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    return code if isinstance(code, int) else 0


def _reject(message: str) -> int:
    sys.stderr.write("raysearch: " + " ".join(message.split()) + "\n")
    return 2


def _usage(error: Exception) -> str:
    message = getattr(error, "format_message", lambda: str(error))()
    context = getattr(error, "ctx", None)
    where = context.command_path if context else "raysearch"
    return f"{message} See `{where} --help`."
