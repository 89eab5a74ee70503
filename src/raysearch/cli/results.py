"""`raysearch results`: prints the leaderboard and the figures of a study."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from raysearch.cli.json_output import print_json
from raysearch.cli.options import (
    MAX_ROWS,
    STUDIES,
    JsonOption,
    NewestStudyArgument,
    OnOption,
    OpenOption,
    StudiesOption,
    check_out_folder,
    chosen_cluster,
    make_console,
    open_page,
)
from raysearch.config.run_location import RemoteCluster
from raysearch.data.file_access import write_file
from raysearch.errors import StudyError

if TYPE_CHECKING:
    from raysearch.analysis.stored_importances import ImportancesByFolds
    from raysearch.cli.leaderboard_table import LeaderboardRow
    from raysearch.search.journal.history import History
    from raysearch.search.study.plan import Plan
    from raysearch.selection.stored_intervals import Intervals


@dataclass(frozen=True)
class StudyResults:
    """The current state of a study.

    Args:
        plan: What the study does.
        history: Its trials.
        importances: Its hyperparameter importances; None if they have to be computed.
        intervals: The intervals of the objectives of its trials, if they are stored.
    """

    plan: Plan
    history: History
    importances: ImportancesByFolds | None = None
    intervals: Intervals = field(default_factory=dict)


@dataclass(frozen=True)
class ResultsRecord:
    """The leaderboard as it is printed in JSON; `mode` is max or min."""

    study: str
    metric: str
    mode: str
    champion: str | None
    leaderboard: tuple[LeaderboardRow, ...]


def results(
    context: typer.Context,
    name: NewestStudyArgument = None,
    studies: StudiesOption = STUDIES,
    on: OnOption = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Also write the figures to this page."),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Also write all trials with their state, metrics by fold, costs and"
            " hyperparameters.",
        ),
    ] = None,
    rows: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="The trials in the table, beside champion and baselines."
        ),
    ] = MAX_ROWS,
    open_in_browser: OpenOption = False,
    as_json: JsonOption = False,
) -> int:
    """Print the leaderboard and the figures of a study.

    `raysearch studies` lists the studies. With --open, the figures are written to
    STUDY-figures.html. No file with a report is replaced.
    A narrow terminal shows the objective, its interval, the folds and the minutes of each trial.

    Example: `raysearch results quickstart --out quickstart.html`
    """
    check_out_folder(out)
    check_out_folder(csv, "--csv")
    console = make_console(stderr=as_json)
    cluster = chosen_cluster(context, on)
    if cluster is None:
        study = _local_results(name, studies)
    else:
        study = _cluster_results(name, cluster, console)
    if open_in_browser and out is None:
        out = Path(f"{study.plan.name}-figures.html")
    _write_files(study, out, csv)
    if as_json:
        print_json(_results_record(study))
    else:
        _show(study, rows, console)
        for label, path in (("Page", out), ("CSV", csv)):
            if path is not None:
                console.print(f"{label:9} {escape(str(path))}", soft_wrap=True)
    if open_in_browser and out is not None:
        open_page(out)
    return 0


def _results_record(study: StudyResults) -> ResultsRecord:
    from raysearch.cli.leaderboard_table import leaderboard_rows

    plan, rows = study.plan, leaderboard_rows(study.plan, study.history, study.intervals)
    champion = study.history.champion
    return ResultsRecord(plan.name, plan.space.metric, plan.space.mode, champion, tuple(rows))


def _show(study: StudyResults, max_rows: int, console: Console) -> None:
    """Print the leaderboard, and the figures below it."""
    from raysearch.analysis.search_figures import study_figures
    from raysearch.cli.leaderboard_table import show_leaderboard
    from raysearch.cli.results_text import figures_text

    show_leaderboard(study.plan, study.history, console, max_rows, study.intervals)
    all_figures = study_figures(study.plan, study.history, study.importances)
    for figures in all_figures:
        console.print(figures_text(figures, console.width))
    if not all_figures:
        console.print("No figures yet: no searched trial has reported.")


def _write_files(study: StudyResults, page: Path | None, table: Path | None) -> None:
    """Write the page of figures, and the CSV file, if they have a path."""
    if page is not None:
        from raysearch.analysis.search_figures import study_figures
        from raysearch.reports.html_page import is_report
        from raysearch.reports.search_page import search_page

        if is_report(page):
            raise StudyError(f"{page} is a report; give --out another file for the figures")
        figures = study_figures(study.plan, study.history, study.importances)
        write_file(page, search_page(study.plan, study.history, figures).encode())
    if table is not None:
        from raysearch.cli.results_csv import results_csv

        write_file(table, results_csv(study.plan, study.history, study.intervals))


def _local_results(name: str | None, studies: str) -> StudyResults:
    from raysearch.analysis.stored_importances import read_importances
    from raysearch.cli.study_paths import newest_name
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.stored_study import load_study
    from raysearch.selection.stored_intervals import read_intervals

    folder = StudyFolder(f"{studies}/{name or newest_name(studies)}")
    study = load_study(folder)
    importances = read_importances(folder, study.plan, study.history)
    intervals = read_intervals(folder, study.history)
    return StudyResults(study.plan, study.history, importances, intervals)


def _cluster_results(name: str | None, cluster: RemoteCluster, console: Console) -> StudyResults:
    """Return the state that the newest launch of the study on the cluster reports."""
    from raysearch.cli.remote_launch import newest_opened_launch
    from raysearch.search.engine.cluster_jobs import connected_jobs

    with connected_jobs(cluster, console.print) as jobs:
        launches = jobs.launches()
        if not launches:
            raise StudyError("no study was launched on this cluster yet; see `raysearch launch`")
        job, log = newest_opened_launch(jobs, name or launches[-1].study)
    study = log.snapshot()
    if study is None:
        raise StudyError(
            f"study {job.study!r} has not started; see `raysearch attach {job.study}"
            f" {cluster.option}`"
        )
    return StudyResults(study.plan, study.history, intervals=log.intervals())
