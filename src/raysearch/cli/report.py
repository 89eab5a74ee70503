"""`raysearch report`: a study as one page worth reading, or what others have published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from raysearch.cli.options import STUDIES, StudiesOption, make_console
from raysearch.errors import StudyError

if TYPE_CHECKING:
    from rich.console import Console

    from raysearch.metrics.plausibility import PlausibilityNote


def report(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="STUDY", help="Or published figures (.yaml), or a score table (.csv)."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Default: STUDY.html.")
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(metavar="FILE.yaml", help="What people say of the card's open topics."),
    ] = None,
    studies: StudiesOption = STUDIES,
) -> int:
    """Write how a champion was chosen, and how it did on each set, as one page without a network.

    With a model card, by the items of CLAIM 2024 and TRIPOD+AI. The same is sent to the study's run
    in MLflow, with the maps of the largest slide as files: PNG, and GeoJSON for QuPath. Published
    figures are checked against themselves, a score table as `raysearch predict` writes it is judged
    by its labels; the exit code is 1 where something in them cannot be.

    Example: `raysearch report first --out first.html`
    """
    console = make_console()
    file = Path(what or "")
    if file.suffix in (".yaml", ".yml", ".csv"):
        return _of_file(file, _place(out, file.stem), console)
    from raysearch.cli.study_paths import newest_name
    from raysearch.search.journal.study_folder import StudyFolder

    chosen = what or newest_name(studies)
    place = _place(out, chosen)
    with console.status("Importing torch and MLflow"):
        from raysearch.reports.model_card import read_said
        from raysearch.reports.report_files import write_report

    said = {} if card is None else read_said(card)
    with console.status("Writing the report"):
        done = write_report(StudyFolder(f"{studies}/{chosen}"), chosen, studies, place, said)
    _show(done.notes, place, console)
    if done.unsent is not None:
        console.print(f"[red]Not in MLflow[/]: {escape(str(done.unsent))}", soft_wrap=True)
    return 0


def _place(out: Path | None, stem: str) -> Path:
    place = out or Path(f"{stem}.html")
    if not place.parent.is_dir():
        raise StudyError(f"--out {place}: no folder {place.parent}; make it, or name another")
    return place


def _of_file(file: Path, place: Path, console: Console) -> int:
    """Published figures, or a score table; the exit code."""
    if not file.is_file():
        raise StudyError(f"{file}: no such file; give figures, a score table, or a study's name")
    if file.suffix == ".csv":
        from raysearch.reports.published_results import scores_in
        from raysearch.reports.report_page import sets_page
        from raysearch.reports.study_report import set_of

        one = set_of(file.stem, f"The scores in {file}.", scores_in(file))
        notes: Sequence[PlausibilityNote] = one.notes
        page = sets_page(f"Scores: {file.stem}", [one])
    else:
        from raysearch.reports.published_results import notes_of, published_page, read_published

        found = read_published(file)
        notes = notes_of(found)
        page = published_page(found, list(notes))
    place.write_text(page, encoding="utf-8")
    _show([note.text for note in notes], place, console)
    return int(any(note.is_error for note in notes))


def _show(notes: Sequence[str], place: Path, console: Console) -> None:
    for note in notes:
        console.print(f"[yellow]Note[/]      {escape(note)}", soft_wrap=True)
    console.print(f"Report    {escape(str(place))}", soft_wrap=True)
