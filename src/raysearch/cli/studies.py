"""`raysearch studies`: lists the studies of a folder, and exports one for other tools."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from raysearch.cli.options import STUDIES, JsonOption, StudiesOption, StudyArgument, make_console
from raysearch.errors import StudyError

studies = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown"
)


@dataclass(frozen=True)
class StudySummary:
    """A study as it is listed.

    Attributes:
        name: Name of the study.
        num_started: The searched trials that have started.
        num_planned: The planned trials.
        metric: The metric of its objective.
        best: The best objective of a finished trial; None if no trial has finished.
        champion: The champion; None if none is selected yet.
        error: Why the study cannot be read; empty if it can.
    """

    name: str
    num_started: int = 0
    num_planned: int = 0
    metric: str = ""
    best: float | None = None
    champion: str | None = None
    error: str = ""


@studies.callback(invoke_without_command=True)
def list_studies(
    context: typer.Context, folder: StudiesOption = STUDIES, as_json: JsonOption = False
) -> int:
    """List the studies of a folder, the newest first.

    Example: `raysearch studies --studies s3://bucket/studies`
    """
    if context.invoked_subcommand is not None:
        return 0
    from raysearch.cli.study_paths import newest_name, study_names

    newest_name(folder)  # reports a folder without studies
    summaries = [_summary(folder, name) for name in reversed(study_names(folder))]
    if as_json:
        sys.stdout.write(json.dumps([asdict(summary) for summary in summaries]) + "\n")
        return 0
    table = Table("study", "trials", "objective", "best", "champion")
    for summary in summaries:
        if summary.error:
            table.add_row(summary.name, "-", "-", "-", escape(summary.error))
            continue
        best = "-" if summary.best is None else f"{summary.best:.4f}"
        trials = f"{summary.num_started}/{summary.num_planned}"
        table.add_row(summary.name, trials, summary.metric, best, summary.champion or "-")
    make_console().print(table)
    return 0


@studies.command("export", no_args_is_help=True)
def export_for_optuna(
    name: StudyArgument,
    out: Annotated[Path, typer.Argument(metavar="FILE", help="The new Optuna journal file.")],
    folder: StudiesOption = STUDIES,
) -> int:
    """Export the trials of a study as an Optuna journal, which `optuna-dashboard` opens.

    Example: `raysearch studies export quickstart quickstart.log`
    """
    if not out.parent.is_dir():
        raise StudyError(f"{out}: no folder {out.parent}; create it, or name another")
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.sampling.optuna_export import ExportedStudy, export_study
    from raysearch.search.study.stored_study import load_study

    study = load_study(StudyFolder(f"{folder}/{name}"))
    plan = study.plan
    exported = ExportedStudy(plan.name, plan.space, plan.fingerprint, study.history)
    num_trials = export_study(exported, out)
    make_console().print(f"{num_trials} trials in {escape(str(out))}", soft_wrap=True)
    return 0


def _summary(folder: str, name: str) -> StudySummary:
    from raysearch.search.journal.history import finished
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.stored_study import load_study

    try:
        study = load_study(StudyFolder(f"{folder}/{name}"))
    except StudyError as error:
        return StudySummary(name, error=str(error))
    plan, history = study.plan, study.history
    ranked = finished(history, plan.space.mode)
    return StudySummary(
        name=name,
        num_started=len(history.searched()),
        num_planned=history.planned(plan.space.trials),
        metric=plan.space.metric,
        best=ranked[0].final_objective if ranked else None,
        champion=history.champion,
    )
