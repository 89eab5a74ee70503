"""`raysearch test`: the held-out set of a study, opened for its locked champion."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from raysearch.cli.options import STUDIES, StudiesOption, StudyArgument, make_console

if TYPE_CHECKING:
    from rich.console import Console

    from raysearch.metrics.evaluation import Assessment
    from raysearch.testing.test_results import About


def test(
    name: StudyArgument,
    studies: StudiesOption = STUDIES,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Judge the locked champion of a study by the patients that were put aside.

    This opens the held-out set, once and for all: the opening is written beside the split manifest and into
    MLflow before anything is seen, every one is counted, and another champion of the study is not
    judged by it any more.

    Example: `raysearch test first`
    """
    from raysearch.cli.shard import file_progress
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.study import read_history, read_plan

    folder = StudyFolder(f"{studies}/{name}")
    plan, history = read_plan(folder), read_history(folder)
    console = make_console(stderr=as_json)
    with console.status("Importing torch and MLflow"):
        from raysearch.inference.model_loading import load_model
        from raysearch.testing.evaluation_run import judge_held_out

    model = load_model(name, studies)
    with file_progress("Judging") as progress:
        done = judge_held_out(folder, plan, history, model, progress)
    if as_json:
        from raysearch.cli.evaluation_text import told

        found = {**asdict(done.about), **told(done.assessment)}
        sys.stdout.write(json.dumps({**found, "unsent": _text(done.unsent)}) + "\n")
        return 0
    show_judged(f"Sealed test set of {name}", done.about, done.assessment, console)
    for_all, mine = done.about.opening["by_all"], done.about.opening["by_this_study"]
    console.print(
        f"Opened    {_times(mine)} by this study, {_times(for_all)} in all; written beside the"
        f" split manifest in {escape(plan.data)}",
        soft_wrap=True,
    )
    if done.unsent is not None:
        console.print(f"[red]Not in MLflow[/]: {escape(str(done.unsent))}", soft_wrap=True)
    return 0


def show_judged(title: str, about: About, found: Assessment, console: Console) -> None:
    """Print the tables of `found`, and what is to be known of them."""
    from raysearch.cli.evaluation_text import assessment_tables

    for table in assessment_tables(title, found, about.in_context):
        console.print(table)
    console.print(f"Model     {escape(about.model)}", soft_wrap=True)
    for note in about.notes:
        console.print(f"[yellow]Note[/]      {escape(note)}", soft_wrap=True)


def _times(count: int) -> str:
    return "for the first time" if count == 1 else f"{count} times"


def _text(error: Exception | None) -> str | None:
    return None if error is None else str(error)
