"""`raysearch report`: writes the page of a study, or checks published results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from raysearch.cli.json_output import print_json
from raysearch.cli.options import (
    STUDIES,
    AllowCodeOption,
    IdentifiersOption,
    JsonOption,
    OpenOption,
    StudiesOption,
    check_out_folder,
    make_console,
    open_page,
    trust_stored_code,
)
from raysearch.data.file_access import write_file
from raysearch.errors import DataError, first_line

if TYPE_CHECKING:
    from rich.console import Console

    from raysearch.metrics.plausibility import PlausibilityNote

FILE_SUFFIXES = (".yaml", ".yml", ".csv")


@dataclass(frozen=True)
class WrittenPage:
    """A page that was written, as it is printed in JSON.

    Attributes:
        page: The file.
        notes: What the page notes on the results.
        tracking_error: Why the page is not in MLflow; None if it is, or is not sent.
        has_errors: Whether a value of published results, or a score, is impossible.
        slides: The page with the slides of the held-out test set; None if there is none.
    """

    page: Path
    notes: tuple[str, ...]
    tracking_error: str | None = None
    has_errors: bool = False
    slides: Path | None = None


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
    identifiers: IdentifiersOption = False,
    open_in_browser: OpenOption = False,
    allow_code: AllowCodeOption = False,
    studies: StudiesOption = STUDIES,
    as_json: JsonOption = False,
) -> int:
    """Write a page on a study, its champion and its results.

    The page needs no network. It contains a model card by the items of CLAIM 2024 and TRIPOD+AI.
    After `raysearch test`, FILE-slides.html has the maps of the slides of the test set. The page
    is also sent to the study's run in MLflow, with the maps of the largest slide as PNG, and as
    GeoJSON for QuPath; a page with `--identifiers` is not sent. Published results are checked for
    consistency. A table of scores, as `raysearch predict` writes it, is evaluated by its labels.
    The exit code is 1 if a value in them is impossible.

    Example: `raysearch report first --out first.html`
    """
    trust_stored_code(allow_code)
    console = make_console(stderr=as_json)
    path = Path(source or "")
    is_file = path.suffix.lower() in FILE_SUFFIXES
    if is_file and not path.is_file():
        raise DataError(
            f"{path}: no such file; give published results, a table of scores, or a study's name"
        )
    check_out_folder(out)
    if is_file:
        out = out or Path(f"{path.stem}.html")
        page = _check_file(path, out, identifiers=identifiers)
    else:
        from raysearch.cli.study_paths import newest_name

        name = source or newest_name(studies)
        out = out or Path(f"{name}.html")
        page = _write_study_report(name, studies, out, card, console, identifiers=identifiers)
    if as_json:
        print_json(page)
    else:
        _show(page, console)
    if open_in_browser:
        open_page(out)
    return int(page.has_errors)


def _write_study_report(
    name: str,
    studies: str,
    out: Path,
    card: Path | None,
    console: Console,
    *,
    identifiers: bool,
) -> WrittenPage:
    """Write the report of a study to `out` and to MLflow."""
    from raysearch.search.journal.study_folder import StudyFolder
    from raysearch.search.study.stored_study import read_plan

    folder = StudyFolder(f"{studies}/{name}")
    read_plan(folder)  # reports a wrong name before torch is imported
    with console.status("Importing torch and MLflow"):
        from raysearch.cli.progress_bar import step_progress
        from raysearch.reports.model_card import read_card_answers
        from raysearch.reports.report_page import write_report

    answers = {} if card is None else read_card_answers(card)
    with step_progress("Reading the study") as on_progress:
        written = write_report(
            name, studies, out, answers, identifiers=identifiers, on_progress=on_progress
        )
    error = written.tracking_error
    error_text = None if error is None else first_line(error)
    return WrittenPage(out, written.notes, error_text, slides=written.slides)


def _check_file(path: Path, out: Path, *, identifiers: bool) -> WrittenPage:
    """Check published results or evaluate a table of scores."""
    if path.suffix.lower() == ".csv":
        from raysearch.reports.displayed_names import displayed_names
        from raysearch.reports.evaluation_page import (
            evaluation_page,
            missing_value_notes,
            read_score_table,
        )
        from raysearch.reports.study_report import evaluate_set

        scored = read_score_table(path)
        text = f"The scores in {path.name}."
        test_set = evaluate_set(path.stem, text, scored, missing_value_notes(scored))
        notes: Sequence[PlausibilityNote] = test_set.notes
        page = evaluation_page(
            f"Scores: {path.stem}", [test_set], displayed_names(None, identifiers=identifiers)
        )
    else:
        from raysearch.reports.published_results import (
            check_published,
            published_page,
            read_published,
        )

        published = read_published(path)
        notes = check_published(published)
        page = published_page(published, list(notes))
    write_file(out, page.encode())
    texts = tuple(note.text for note in notes)
    return WrittenPage(out, texts, has_errors=any(note.is_error for note in notes))


def _show(page: WrittenPage, console: Console) -> None:
    for note in page.notes:
        console.print(f"[yellow]Note[/]      {escape(note)}", soft_wrap=True)
    console.print(f"Report    {escape(str(page.page))}", soft_wrap=True)
    if page.slides is not None:
        console.print(f"Slides    {escape(str(page.slides))}", soft_wrap=True)
    if page.tracking_error is not None:
        console.print(f"[red]Not in MLflow[/]: {escape(page.tracking_error)}", soft_wrap=True)
