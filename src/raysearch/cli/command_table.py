"""The table of commands, from which `--help` is printed without importing any of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer
import typer.core
import typer.main

from raysearch.data.file_access import SHARED_GROUP, process_umask

if TYPE_CHECKING:
    from typer._click import Command, Context
    from typer._click.formatting import HelpFormatter

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"]}


@dataclass(frozen=True)
class CommandEntry:
    """A command of the application.

    Args:
        panel: The panel of `--help` that lists it.
        help: The first sentence of its help.
        module: The module of `raysearch.cli` with the function, or the `typer.Typer` of a group,
            that has the command's name; by default the module has the name, too.
    """

    panel: str
    help: str
    module: str = ""


# In the order of `--help`.
COMMANDS: Mapping[str, CommandEntry] = {
    "shard": CommandEntry("Data", "Decode images into Parquet shards, once and on all cores."),
    "features": CommandEntry("Data", "Compute the features of the patches of each slide once."),
    "split": CommandEntry("Data", "Create a held-out test set and folds, grouped by patient."),
    "inspect": CommandEntry(
        "Data", "Inspect shards: counts, outliers, duplicates, labels, splits."
    ),
    "harvest": CommandEntry("Data", "Cut the H&E images of published papers into tiles."),
    "launch": CommandEntry("Search", "Run a study: search, then train and register the champion."),
    "status": CommandEntry("Search", "Print where a study stands, on this machine or a cluster."),
    "attach": CommandEntry("Search", "Show the live table of a running study until Ctrl-C."),
    "stop": CommandEntry("Search", "Stop a running study; `launch --resume` continues it."),
    "studies": CommandEntry("Search", "List, export, import and delete studies."),
    "results": CommandEntry("Results", "Print the leaderboard and the figures of a study."),
    "select": CommandEntry("Results", "Select the champion: the fastest of the tied best trials."),
    "test": CommandEntry("Results", "Evaluate the champion of a study on the held-out test set."),
    "compare": CommandEntry(
        "Results", "Compare the values of a hyperparameter by pairs of trials."
    ),
    "report": CommandEntry("Results", "Write a page on a study, its champion and its results."),
    "replay": CommandEntry("Results", "Train a trial again, and compare it with its record."),
    "predict": CommandEntry(
        "Models", "Predict the calibrated class probabilities of patches or slides."
    ),
    "evaluate": CommandEntry("Models", "Evaluate a model on an external test set."),
    "export": CommandEntry(
        "Models", "Write a model of patches for other programs: ONNX, or a folder of WSInfer."
    ),
    "weights": CommandEntry(
        "Models", "List, fetch and check pretrained weights; export those of a champion."
    ),
    "slurm": CommandEntry(
        "Machines", "Write the Slurm script of a study, which starts Ray on its nodes."
    ),
    "doctor": CommandEntry(
        "Machines", "Check nodes: versions, GPUs, storage, tracking, clocks, disk."
    ),
    "ray": CommandEntry(
        "Machines", "Start or stop a cluster as `ray` does, over checked ssh.", module="ray_command"
    ),
    "ui": CommandEntry("Machines", "Start the MLflow UI on the tracking store of this folder."),
}

# The other commands write no file that may contain patches or identifiers.
WRITING_COMMANDS = frozenset(COMMANDS) - frozenset(
    ("status", "attach", "stop", "studies", "compare", "replay", "doctor", "ray", "ui")
)
# The commands that connect to a cluster.
SSH_COMMANDS = {"launch", "status", "attach", "stop", "results", "doctor", "ray"}
# The variable of `--known-hosts`; see `search.engine.cluster_ssh`.
KNOWN_HOSTS = "RAYSEARCH_KNOWN_HOSTS"


def load_command(name: str) -> Command:
    """Import the command `name` of `COMMANDS`.

    A command with required arguments prints its help if it is called without any.
    """
    entry = COMMANDS[name]
    member = getattr(import_module(f"raysearch.cli.{entry.module or name}"), name)
    if isinstance(member, typer.Typer):
        command = typer.main.get_command(member)
    else:
        application = typer.Typer(
            add_completion=False,
            context_settings=CONTEXT_SETTINGS,
            pretty_exceptions_enable=False,
            rich_markup_mode="markdown",
        )
        application.command(name)(member)
        command = typer.main.get_command(application)
    command.name = name
    if isinstance(command, typer.core.TyperCommand):
        command.no_args_is_help = any(parameter.required for parameter in command.params)
        if name in WRITING_COMMANDS:
            _add_option(command, _shared)
        if name in SSH_COMMANDS:
            _add_option(command, _known_hosts)
    return command


def _shared(
    shared: Annotated[
        str | None,
        typer.Option(
            metavar="GROUP",
            envvar=SHARED_GROUP,
            help="Let the members of a group read and write the new files. Default: no others.",
        ),
    ] = None,
) -> None:
    """Set the group of new files, for this process and its children."""
    if shared:
        os.environ[SHARED_GROUP] = shared
        os.umask(process_umask())


def _known_hosts(
    known_hosts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            envvar=KNOWN_HOSTS,
            help="The keys of the cluster's hosts, for ssh. Default: keys are not checked.",
        ),
    ] = None,
) -> None:
    """Set the file of host keys, for this process and its children."""
    if known_hosts:
        os.environ[KNOWN_HOSTS] = known_hosts


def _add_option(command: Command, set_value: Callable[..., None]) -> None:
    """Add the option that `set_value` has as its parameter; it is called before the command."""
    application = typer.Typer(add_completion=False)
    application.command()(set_value)
    (option,) = typer.main.get_command(application).params
    option.expose_value = False
    option.callback = lambda _context, _option, value: set_value(value)
    command.params.append(option)


class LazyGroup(typer.core.TyperGroup):
    """A group that imports a command when it is used."""

    def list_commands(self, ctx: Context) -> list[str]:  # noqa: ARG002
        """Return the names of the commands, in the order of `--help`."""
        return list(COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:  # noqa: ARG002
        """Return the command `cmd_name`; None if there is none."""
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:  # noqa: ARG002
        """Print the help of the application: its commands in panels, as typer prints options.

        Typer's own function renders Markdown, whose libraries take longer to import than the rest
        of this help.
        """
        from rich.console import Console
        from rich.markup import escape
        from rich.panel import Panel
        from rich.table import Table
        from rich.text import Text

        console = Console(highlight=False)
        usage = escape(f"{ctx.command_path} COMMAND [OPTIONS]")
        console.print(f"\n [bold]Usage:[/] {usage}\n\n {self.help}\n")
        for panel in dict.fromkeys(entry.panel for entry in COMMANDS.values()):
            table = Table(box=None, show_header=False, padding=(0, 1), expand=True)
            table.add_column(style="bold cyan", no_wrap=True, width=max(map(len, COMMANDS)))
            table.add_column(ratio=1)
            for name, entry in COMMANDS.items():
                if entry.panel == panel:
                    table.add_row(name, Text(entry.help.replace("`", "")))
            console.print(Panel(table, title=panel, title_align="left", border_style="dim"))
        console.print(
            f" `{ctx.command_path} COMMAND --help` explains a command.\n"
            f" `{ctx.command_path} --install-completion` completes names in the shell, and"
            " `--version` prints the version.\n",
            markup=False,
        )
