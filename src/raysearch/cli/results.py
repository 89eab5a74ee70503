"""`raysearch results`: the leaderboard of a study."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from raysearch.cli.options import STUDIES, StudiesOption, make_console
from raysearch.errors import StudyError

if TYPE_CHECKING:
    from raysearch.search.history import History
    from raysearch.search.journal import Event
    from raysearch.search.plan import Plan


def results(
    name: Annotated[str | None, typer.Argument(help="The study. Default: the newest.")] = None,
    studies: StudiesOption = STUDIES,
    cluster: Annotated[
        Path | None, typer.Option(help="Ask the cluster that `ray up` made of this file.")
    ] = None,
    optuna: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also write an Optuna journal, which `optuna-dashboard` opens."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Print the leaderboard of a study, also while it runs.

    Example: `raysearch results quickstart`
    """
    from raysearch.cli.studies import newest_name, study_names
    from raysearch.cli.tables import leaderboard_rows, leaderboard_table
    from raysearch.search.folder import StudyFolder
    from raysearch.search.history import History
    from raysearch.search.journal import Journal
    from raysearch.search.study import read_plan

    console = make_console(stderr=as_json)
    others: list[str] = []
    events: list[Event] = []
    if cluster is not None:
        plan, history = _there(name, cluster, console)
    else:
        chosen = name or newest_name(studies)
        folder = StudyFolder(f"{studies}/{chosen}")
        plan, events = read_plan(folder), Journal(folder / folder.JOURNAL).events
        history = History(events)
        others = [other for other in study_names(studies) if other != chosen]
    if optuna is not None:
        _export(plan, history, optuna, events)
    if as_json:
        sys.stdout.write(json.dumps(leaderboard_rows(plan, history)) + "\n")
        return 0
    console.print(leaderboard_table(plan, history, console.width))
    if optuna is not None:
        console.print(f"Look further with: optuna-dashboard {escape(str(optuna))}", soft_wrap=True)
    if others:
        console.print(f"Other studies here: {', '.join(others)}")
    return 0


def _export(plan: Plan, history: History, path: Path, events: list[Event]) -> None:
    from raysearch.search.sampler_export import export_study

    if not path.parent.is_dir():
        raise StudyError(f"--optuna {path}: no folder {path.parent}; make it, or name another")
    export_study(plan, history, path, events)


def _there(name: str | None, cluster: Path, console: Console) -> tuple[Plan, History]:
    """The plan and the history that the newest launch of the study on the cluster tells."""
    from raysearch.cli.remote import latest
    from raysearch.search.engine.jobs import tunnel

    with tunnel(cluster, console.print) as jobs:
        launches = jobs.launches()
        if not launches:
            raise StudyError("no study was launched on this cluster yet; see `raysearch launch`")
        job, mirror = latest(jobs, name or launches[-1].study)
    if mirror is None:
        raise StudyError(f"study {job.study!r} never began; see `raysearch attach {job.study}`")
    return mirror.plan, mirror.history
