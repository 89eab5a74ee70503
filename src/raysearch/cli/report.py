"""`raysearch report`: writes the page of a study, or checks published results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from raysearch.cli.options import (
    STUDIES,
    OpenOption,
    StudiesOption,
    check_out_folder,
    make_console,
    open_page,
)
from raysearch.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console

    from raysearch.metrics.plausibility import PlausibilityNote

FILE_SUFFIXES = (".yaml", ".yml", ".csv")


def report(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="STUDY",
            help="A study, published results (.yaml), or a table of scores (.csv). Default: the"
            " newest study.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="The page. Default: STUDY.html.")
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(metavar="FILE.yaml", help="Texts for the topics of the model card."),
    ] = None,
    open_in_browser: OpenOption = False,
    studies: StudiesOption = STUDIES,
) -> int:
    """Write a page on how a champion was selected, and its results on each set.

    The page needs no network. It contains a model card by the items of CLAIM 2024 and TRIPOD+AI. It
    is also sent to the study's run in MLflow, with the maps of the largest slide as PNG, and as
    GeoJSON for QuPath. Published results are checked for consistency. A table of scores, as
    `raysearch predict` writes it, is evaluated by its labels. The exit code is 1 if a value in them
    is impossible.

    Example: `raysearch report first --out first.html`
    """
    console = make_console()
    path = Path(source or "")
    is_file = path.suffix in FILE_SUFFIXES
    if is_file and not path.is_file():
        raise DataError(
            f"{path}: no such file; give published results, a table of scores, or a study's name"
        )
    check_out_folder(out)
    if is_file:
        out = out or Path(f"{path.stem}.html")
        exit_code = _check_file(path, out, console)
    else:
        from raysearch.cli.study_paths import newest_name

        name = source or newest_name(studies)
        out = out or Path(f"{name}.html")
        exit_code = _write_study_report(name, studies, out, card, console)
    if open_in_browser:
        open_page(out)
    return exit_code


def _write_study_report(
    name: str, studies: str, out: Path, card: Path | None, console: Console
) -> int:
    """Write the report of a study to `out` and to MLflow; return the exit code."""
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.stored_study import read_plan

    folder = StudyFolder(f"{studies}/{name}")
    read_plan(folder)  # reports a wrong name before torch is imported
    with console.status("Importing torch and MLflow"):
        from raysearch.reports.model_card import read_card_answers
        from raysearch.reports.report_page import write_report

    answers = {} if card is None else read_card_answers(card)
    with console.status("Writing the report"):
        written = write_report(folder, name, studies, out, answers)
    _show(written.notes, out, console)
    if written.tracking_error is not None:
        console.print(
            f"[red]Not in MLflow[/]: {escape(str(written.tracking_error))}", soft_wrap=True
        )
    return 0


def _check_file(path: Path, out: Path, console: Console) -> int:
    """Check published results or evaluate a table of scores; return the exit code."""
    if path.suffix == ".csv":
        from raysearch.reports.evaluation_page import evaluation_page, read_score_table
        from raysearch.reports.study_report import evaluate_set

        test_set = evaluate_set(path.stem, f"The scores in {path}.", read_score_table(path))
        notes: Sequence[PlausibilityNote] = test_set.notes
        page = evaluation_page(f"Scores: {path.stem}", [test_set])
    else:
        from raysearch.reports.published_results import (
            check_published,
            published_page,
            read_published,
        )

        published = read_published(path)
        notes = check_published(published)
        page = published_page(published, list(notes))
    out.write_text(page, encoding="utf-8")
    _show([note.text for note in notes], out, console)
    return int(any(note.is_error for note in notes))


def _show(notes: Sequence[str], out: Path, console: Console) -> None:
    for note in notes:
        console.print(f"[yellow]Note[/]      {escape(note)}", soft_wrap=True)
    console.print(f"Report    {escape(str(out))}", soft_wrap=True)
