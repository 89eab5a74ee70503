"""`raysearch evaluate`: a model judged on labelled shards from elsewhere."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from raysearch.cli.options import STUDIES, StudiesOption, make_console
from raysearch.errors import DataError, StudyError


def evaluate(
    address: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A study's name, models:/NAME@champion, or a model's folder."
        ),
    ],
    data: Annotated[str, typer.Argument(metavar="SHARDS", help="Made by `raysearch shard`.")],
    task: Annotated[str, typer.Option(help="What their labels are of.")] = "label",
    name: Annotated[
        str | None, typer.Option(help="What the set is called. Default: its folder's name.")
    ] = None,
    called: Annotated[
        str, typer.Option("--as", help="What the model calls their classes: 0=negative,1=positive.")
    ] = "",
    page: Annotated[
        Path | None, typer.Option("--report", metavar="FILE.html", help="Also write it as a page.")
    ] = None,
    studies: StudiesOption = STUDIES,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Judge a model on labelled patches from elsewhere, by patch, by class and by patient.

    They need its size and its classes; a set that shares patients or pixels with what the model
    learned from is rejected. A study's figures are kept with it, for its report.

    Example: `raysearch evaluate first data/pcam`
    """
    from raysearch.cli.shard import file_progress
    from raysearch.cli.test import show_judged
    from raysearch.data.files import Folder
    from raysearch.data.shards.shard_manifest import read_manifest
    from raysearch.search.journal.study_folder import StudyFolder

    read_manifest(Folder(data)).classes_of(task)
    if page is not None and not page.parent.is_dir():
        raise StudyError(f"--report {page}: no folder {page.parent}; make it, or name another")
    console = make_console(stderr=as_json)
    with console.status("Importing torch and MLflow"):
        from raysearch.inference.model_loading import load_model
        from raysearch.testing.evaluation_run import judge_elsewhere
        from raysearch.testing.external_test_set import Outside

    folder = StudyFolder(f"{studies}/{address}")
    model = load_model(address, studies)
    with file_progress("Judging") as progress:
        asked = Outside(data, task, name, _called(called))
        done = judge_elsewhere(
            model, folder if folder.exists(folder.PLAN) else None, asked, progress
        )
    if page is not None:
        from raysearch.reports.report_page import sets_page
        from raysearch.reports.study_report import set_of

        text = f"Shards from elsewhere, {data}, judged by {model.name}."
        one = set_of(done.about.name, text, done.scored, notes=done.about.notes)
        page.write_text(sets_page(f"{model.name} on {one.name}", [one]), encoding="utf-8")
    if as_json:
        from raysearch.cli.evaluation_text import told

        sys.stdout.write(json.dumps({**asdict(done.about), **told(done.assessment)}) + "\n")
        return 0
    show_judged(f"{done.about.name}, from elsewhere", done.about, done.assessment, console)
    return 0


def _called(text: str) -> dict[str, str]:
    pairs = [one.partition("=") for one in text.split(",") if one]
    if not all(name and other for name, _equals, other in pairs):
        raise DataError(f"--as {text}: not names; give such as 0=negative,1=positive")
    return {name: other for name, _equals, other in pairs}
