"""`raysearch results`: the leaderboard of a study, and its figures."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from raysearch.cli.options import STUDIES, StudiesOption, make_console
from raysearch.errors import StudyError

if TYPE_CHECKING:
    from raysearch.search.journal.history import History
    from raysearch.search.study.plan import Plan


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
    page: Annotated[
        Path | None,
        typer.Option("--figures", metavar="FILE.html", help="Also write the figures as one page."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Print the leaderboard and the figures of a study, also while it runs.

    Example: `raysearch results quickstart --figures quickstart.html`
    """
    _reject_place("--optuna", optuna)
    _reject_place("--figures", page)
    console = make_console(stderr=as_json)
    found = _here(name, studies) if cluster is None else _there(name, cluster, console)
    if optuna is not None:
        from raysearch.search.sampling.optuna_export import ExportedStudy, export_study

        plan = found.plan
        exported = ExportedStudy(plan.name, plan.space, plan.fingerprint, found.history)
        export_study(exported, optuna)
    if page is not None:
        _write_page(found, page)
    if as_json:
        from raysearch.cli.tables import leaderboard_rows

        sys.stdout.write(json.dumps(leaderboard_rows(found.plan, found.history)) + "\n")
    else:
        _show(found, console)
    return 0


@dataclass(frozen=True)
class Found:
    """A study as it is now, and the names of the others."""

    plan: Plan
    history: History
    others: Sequence[str] = ()


def _reject_place(option: str, path: Path | None) -> None:
    if path is not None and not path.parent.is_dir():
        raise StudyError(f"{option} {path}: no folder {path.parent}; make it, or name another")


def _show(found: Found, console: Console) -> None:
    """The leaderboard, and the figures below it."""
    from raysearch.analysis.search_figures import study_figures
    from raysearch.cli.results_text import figures_text
    from raysearch.cli.tables import leaderboard_table

    console.print(leaderboard_table(found.plan, found.history, console.width))
    figures = study_figures(found.plan, found.history)
    for one in figures:
        console.print(figures_text(one, console.width))
    if not figures:
        console.print("No figures yet: no searched trial has reported.")
    if found.others:
        console.print(f"Other studies here: {', '.join(found.others)}")


def _write_page(found: Found, path: Path) -> None:
    from raysearch.analysis.search_figures import study_figures
    from raysearch.reports.search_page import figures_page

    figures = study_figures(found.plan, found.history)
    path.write_text(figures_page(found.plan, found.history, figures), encoding="utf-8")


def _here(name: str | None, studies: str) -> Found:
    from raysearch.cli.study_paths import newest_name, study_names
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.stored_study import load_study

    chosen = name or newest_name(studies)
    folder = StudyFolder(f"{studies}/{chosen}")
    study = load_study(folder)
    others = [other for other in study_names(studies) if other != chosen]
    return Found(study.plan, study.history, others)


def _there(name: str | None, cluster: Path, console: Console) -> Found:
    """What the newest launch of the study on the cluster tells."""
    from raysearch.cli.remote_launch import newest_opened_launch
    from raysearch.search.engine.cluster_jobs import cluster_tunnel

    with cluster_tunnel(cluster, console.print) as jobs:
        launches = jobs.launches()
        if not launches:
            raise StudyError("no study was launched on this cluster yet; see `raysearch launch`")
        job, mirror = newest_opened_launch(jobs, name or launches[-1].study)
    if mirror is None:
        raise StudyError(f"study {job.study!r} never began; see `raysearch attach {job.study}`")
    return Found(mirror.plan, mirror.history)
