"""`raysearch predict`: a champion used on patches that nobody has judged yet."""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from raysearch.cli.options import STOPPED, STUDIES, StudiesOption, make_console
from raysearch.errors import StudyError

if TYPE_CHECKING:
    from raysearch.data.files import Folder
    from raysearch.inference.model_loading import Model, Progress
    from raysearch.inference.prediction import Predicted
    from raysearch.inference.score_sources import Source


def predict(
    address: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A study's name, models:/NAME@champion, or a model's folder."
        ),
    ],
    place: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Shards, or images as `raysearch shard` takes.")
    ],
    out: Annotated[str, typer.Argument(help="The folder for the scores.")],
    form: Annotated[
        str | None,
        typer.Option("--format", help="As for `raysearch shard`. Default: as it looks."),
    ] = None,
    task: Annotated[str, typer.Option(help="What the labels of shards are of.")] = "label",
    explain: Annotated[
        int,
        typer.Option(
            help="So many pictures of what decided: of the surest errors, where labels are known."
        ),
    ] = 0,
    spread: Annotated[
        int, typer.Option(help="By so many workers of Ray Data. Default: in this process.")
    ] = 0,
    studies: StudiesOption = STUDIES,
) -> int:
    """Score patches by a champion: a calibrated probability of each class.

    OUT holds `scores.parquet`, the same as `scores.csv`, and `rejected.csv`. Stopped, and run again
    by the same words, it goes on. Images are fitted to the model's size; where their layout tells
    no labels, all images below SOURCE are taken without.

    Example: `raysearch predict first slides/8863 scores --explain 20`
    """
    from raysearch.cli.shard import file_progress
    from raysearch.data.files import Folder

    if min(explain, spread) < 0:
        raise StudyError(f"--explain {explain}, --spread {spread}: give 0 or more")
    console = make_console(stderr=True)
    with console.status("Importing torch and MLflow"):
        from raysearch.inference.model_loading import load_model
        from raysearch.inference.score_sources import source_of

    model = load_model(address, studies)
    with tempfile.TemporaryDirectory(prefix="raysearch-") as scratch:
        source = source_of(place, form, task, model.recipe.shape, Path(scratch))
        with file_progress("Scoring") as progress:
            found = _predicted(model, source, Folder(out), progress, spread)
        if isinstance(found, int):
            console.print(f"{STOPPED}. To go on, give the same words again.")
            return found
        shown = _explained(model, source, Folder(out), explain)
    said = "" if found.new == found.rows else f", {found.new:,} of them by this run"
    sys.stdout.write(
        f"{found.rows:,} patches in {out}/scores.parquet and .csv{said}; {found.rejected:,} rejected"
        f"{f', see {out}/rejected.csv' if found.rejected else ''}\n"
    )
    if shown:
        console.print(f"Pictures  {shown} in {escape(out)}/explain", soft_wrap=True)
    return 0


def _predicted(
    model: Model, source: Source, out: Folder, progress: Progress, workers: int
) -> Predicted | int:
    """What came of it; the exit code where it was stopped."""
    from raysearch.inference.prediction import predict as score_all

    if not workers:
        return score_all(model, source, out, progress)
    from raysearch.search.engine.data_parallel import spread
    from raysearch.search.engine.session import InterruptedStudyError, ray_session

    try:
        with ray_session():
            return score_all(model, source, out, progress, partial(spread, workers=workers))
    except InterruptedStudyError as interrupt:
        return 128 + interrupt.signum


def _explained(model: Model, source: Source, out: Folder, count: int) -> int:
    from raysearch.inference.explanation import explain

    return explain(model, source, out, count) if count else 0
