"""The table of commands, from which `--help` is printed without importing any of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import typer
import typer.core
import typer.main

if TYPE_CHECKING:
    from typer._click import Command, Context
    from typer._click.formatting import HelpFormatter


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
    "shard": CommandEntry(
        "Data", "Decode images once, on all cores, into Parquet shards with a manifest."
    ),
    "split": CommandEntry(
        "Data",
        "Create a split manifest: a held-out test set, and folds that are grouped by patient.",
    ),
    "inspect": CommandEntry(
        "Data", "Inspect a set of shards: counts, outliers, duplicates, labels and splits."
    ),
    "harvest": CommandEntry("Data", "Cut the H&E images of published papers into tiles."),
    "launch": CommandEntry(
        "Search", "Run a study: search, train the selected trial, register the champion."
    ),
    "status": CommandEntry(
        "Search",
        "Print the launches on a cluster; for one study, also its current leaderboard.",
    ),
    "attach": CommandEntry(
        "Search", "Show the live table of a study on a cluster; Ctrl-C leaves the study running."
    ),
    "stop": CommandEntry(
        "Search", "Stop a study on a cluster; `launch --cluster ... --resume` resumes it."
    ),
    "studies": CommandEntry("Search", "List the studies of a folder, the newest first."),
    "results": CommandEntry(
        "Results", "Print the leaderboard and the figures of a study, also while it runs."
    ),
    "select": CommandEntry(
        "Results",
        "Select the champion of a study: the fastest of the trials that are tied with the best.",
    ),
    "test": CommandEntry(
        "Results",
        "Evaluate the champion of a study on the patients of the held-out test set.",
    ),
    "compare": CommandEntry(
        "Results",
        "Compare the values of a hyperparameter by pairs of trials that are equal in all others.",
    ),
    "report": CommandEntry(
        "Results", "Write a page on how a champion was selected, and its results on each set."
    ),
    "replay": CommandEntry(
        "Results",
        "Train a trial again from its record, and compare the objective at each fold-epoch.",
    ),
    "predict": CommandEntry("Models", "Predict the calibrated class probabilities of patches."),
    "evaluate": CommandEntry(
        "Models", "Evaluate a model on an external test set, by patch, by class and by patient."
    ),
    "weights": CommandEntry(
        "Models", "Write the champion's weights, for `weights: FILE` in the space of another study."
    ),
    "doctor": CommandEntry(
        "Machines",
        "Check every node: versions, GPUs, storage, tracking, clocks, disk, token, dashboard.",
    ),
    "ui": CommandEntry(
        "Machines", "Start the MLflow UI on the store that `launch` uses in this folder."
    ),
}


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
            add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown"
        )
        application.command(name)(member)
        command = typer.main.get_command(application)
    command.name = name
    if isinstance(command, typer.core.TyperCommand):
        command.no_args_is_help = any(parameter.required for parameter in command.params)
    return command


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
        console.print(f" `{ctx.command_path} COMMAND --help` explains a command.\n", markup=False)
