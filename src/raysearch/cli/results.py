"""`raysearch results`: prints the leaderboard and the figures of a study."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from raysearch.cli.options import (
    STUDIES,
    JsonOption,
    NewestStudyArgument,
    OpenOption,
    StudiesOption,
    check_out_folder,
    make_console,
    open_page,
)
from raysearch.errors import StudyError

if TYPE_CHECKING:
    from raysearch.analysis.stored_importances import ImportancesByFolds
    from raysearch.search.journal.history import History
    from raysearch.search.study.plan import Plan


@dataclass(frozen=True)
class StudyResults:
    """The current state of a study.

    Args:
        plan: What the study does.
        history: Its trials.
        importances: Its hyperparameter importances; None if they have to be computed.
    """

    plan: Plan
    history: History
    importances: ImportancesByFolds | None = None


def results(
    name: NewestStudyArgument = None,
    studies: StudiesOption = STUDIES,
    cluster: Annotated[
        Path | None,
        typer.Option(help="The study is on the cluster that `ray up` started with this file."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Also write the figures to this page."),
    ] = None,
    open_in_browser: OpenOption = False,
    as_json: JsonOption = False,
) -> int:
    """Print the leaderboard and the figures of a study, also while it runs.

    `raysearch studies` lists the studies. With --open, the figures are written to STUDY.html.

    Example: `raysearch results quickstart --out quickstart.html`
    """
    check_out_folder(out)
    console = make_console(stderr=as_json)
    if cluster is None:
        study = _local_results(name, studies)
    else:
        study = _cluster_results(name, cluster, console)
    if open_in_browser and out is None:
        out = Path(f"{study.plan.name}.html")
    if out is not None:
        _write_page(study, out)
    if as_json:
        from raysearch.cli.leaderboard_table import leaderboard_rows

        rows = [asdict(row) for row in leaderboard_rows(study.plan, study.history)]
        sys.stdout.write(json.dumps(rows) + "\n")
    else:
        _show(study, console)
        if out is not None:
            console.print(f"Page      {escape(str(out))}", soft_wrap=True)
    if open_in_browser and out is not None:
        open_page(out)
    return 0


def _show(study: StudyResults, console: Console) -> None:
    """Print the leaderboard, and the figures below it."""
    from raysearch.analysis.search_figures import study_figures
    from raysearch.cli.leaderboard_table import leaderboard_table
    from raysearch.cli.results_text import figures_text

    console.print(leaderboard_table(study.plan, study.history, console.width))
    all_figures = study_figures(study.plan, study.history, study.importances)
    for figures in all_figures:
        console.print(figures_text(figures, console.width))
    if not all_figures:
        console.print("No figures yet: no searched trial has reported.")


def _write_page(study: StudyResults, path: Path) -> None:
    from raysearch.analysis.search_figures import study_figures
    from raysearch.reports.search_page import search_page

    figures = study_figures(study.plan, study.history, study.importances)
    path.write_text(search_page(study.plan, study.history, figures), encoding="utf-8")


def _local_results(name: str | None, studies: str) -> StudyResults:
    from raysearch.analysis.stored_importances import read_importances
    from raysearch.cli.study_paths import newest_name
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.stored_study import load_study

    folder = StudyFolder(f"{studies}/{name or newest_name(studies)}")
    study = load_study(folder)
    importances = read_importances(folder, study.plan, study.history)
    return StudyResults(study.plan, study.history, importances)


def _cluster_results(name: str | None, cluster: Path, console: Console) -> StudyResults:
    """Return the state that the newest launch of the study on the cluster reports."""
    from raysearch.cli.remote_launch import newest_opened_launch
    from raysearch.search.engine.cluster_jobs import cluster_tunnel

    with cluster_tunnel(cluster, console.print) as jobs:
        launches = jobs.launches()
        if not launches:
            raise StudyError("no study was launched on this cluster yet; see `raysearch launch`")
        job, study = newest_opened_launch(jobs, name or launches[-1].study)
    if study is None:
        raise StudyError(f"study {job.study!r} has not started; see `raysearch attach {job.study}`")
    return StudyResults(study.plan, study.history)
