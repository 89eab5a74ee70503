"""`raysearch report`: a study as one page worth reading."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from raysearch.cli.options import STUDIES, StudiesOption, make_console
from raysearch.errors import StudyError


def report(
    name: Annotated[str | None, typer.Argument(help="The study. Default: the newest.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Default: NAME.html.")
    ] = None,
    studies: StudiesOption = STUDIES,
) -> int:
    """Write how a champion was chosen, and how it did on each set, as one page without a network.

    The same is sent to the study's run in MLflow, with the maps of the largest slide as files: PNG,
    and GeoJSON that QuPath opens.

    Example: `raysearch report first --out first.html`
    """
    from raysearch.cli.studies import newest_name
    from raysearch.search.folder import StudyFolder

    chosen = name or newest_name(studies)
    place = out or Path(f"{chosen}.html")
    if not place.parent.is_dir():
        raise StudyError(f"--out {place}: no folder {place.parent}; make it, or name another")
    console = make_console()
    with console.status("Importing torch and MLflow"):
        from raysearch.evaluation.reporting import write_report

    with console.status("Writing the report"):
        done = write_report(StudyFolder(f"{studies}/{chosen}"), chosen, studies, place)
    for note in done.notes:
        console.print(f"[yellow]Note[/]      {escape(note)}", soft_wrap=True)
    console.print(f"Report    {escape(str(place))}", soft_wrap=True)
    if done.unsent is not None:
        console.print(f"[red]Not in MLflow[/]: {escape(str(done.unsent))}", soft_wrap=True)
    return 0
