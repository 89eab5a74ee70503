"""`raysearch replay`: a trial trained once more, and its numbers beside the recorded ones."""

from __future__ import annotations

import math
import socket
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from raysearch.cli.options import STUDIES, StudiesOption, make_console
from raysearch.cli.shard import file_progress
from raysearch.errors import StudyError

if TYPE_CHECKING:
    from raysearch.analysis.trial_replay import Replay


def replay(
    trial: Annotated[str, typer.Argument(help="The trial, such as t0003 or benchmark.")],
    study: Annotated[str | None, typer.Option(help="The study. Default: the newest.")] = None,
    folds: Annotated[
        int | None, typer.Option(metavar="N", help="Only the first N folds. Default: all.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="The shards, where they are no longer where they were.")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="How far an objective may be from the recorded one. Default: 0 on the machine"
            " that trained it, without a GPU; 0.03 elsewhere."
        ),
    ] = None,
    studies: StudiesOption = STUDIES,
) -> int:
    """Train a trial again from its record, and compare the objective at each fold-epoch.

    Leaves with exit code 1 where they do not agree. Nothing is written.

    Example: `raysearch replay t0003 --study quickstart --folds 1`
    """
    from raysearch.analysis.trial_replay import default_tolerance
    from raysearch.analysis.trial_replay import replay as train_again
    from raysearch.cli.study_paths import newest_name
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.study import read_plan

    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise StudyError(f"--tolerance {tolerance}: not a distance; give 0 or more")
    folder = StudyFolder(f"{studies}/{study or newest_name(studies)}")
    metric = read_plan(folder).space.metric
    with file_progress(f"Training {trial} again") as update:
        found = train_again(folder, trial, folds, data, update)
    within = default_tolerance(found, socket.gethostname()) if tolerance is None else tolerance
    console = make_console()
    console.print(_table(found, metric))
    if found.plain:
        console.print(f"The study chose no precisions for {found.device}; this is plain float32.")
    agrees = found.agrees(within)
    console.print(escape(_decision(found, within, agrees)), soft_wrap=True)
    return int(not agrees)


def _table(found: Replay, metric: str) -> Table:
    table = Table(title=f"{metric} of {found.trial.id}, trained again", title_justify="left")
    for name in ("fold-epoch", "fold", "recorded", "replayed", "difference"):
        table.add_column(name, justify="right")
    for one in found.epochs:
        cells = ["-" if value is None else f"{value:.6f}" for value in (one.recorded, one.replayed)]
        apart = f"{one.difference:.2g}" if math.isfinite(one.difference) else "-"
        table.add_row(str(one.epoch), str(one.fold), *cells, apart)
    return table


def _decision(found: Replay, within: float, agrees: bool) -> str:
    text = f"{'They agree' if agrees else 'They do not agree'} within {within:g}"
    if found.failure or found.expected:
        text += f"; recorded: {found.expected or 'no failure'}, now: {found.failure or 'none'}"
    if math.isfinite(found.largest):
        text += f"; the largest difference is {found.largest:.2g}"
    return f"{text}."
