"""`raysearch predict`: predicts the classes of patches with a champion."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from raysearch.cli.json_output import print_json
from raysearch.cli.options import (
    INTERRUPTED,
    STUDIES,
    AllowCodeOption,
    DepthOption,
    JsonOption,
    StudiesOption,
    make_console,
    trust_stored_code,
)
from raysearch.cli.supervisor import SUPERVISOR
from raysearch.data.class_names import listed_names
from raysearch.data.scratch_folder import scratch_folder
from raysearch.errors import StudyError

if TYPE_CHECKING:
    from raysearch.data.files import Folder
    from raysearch.data.step_progress import StepCallback
    from raysearch.inference.model_loading import Model
    from raysearch.inference.prediction import PredictionSummary
    from raysearch.inference.score_batches import Source
    from raysearch.inference.slide_results import SlideResultSummary

SAVED_BATCHES = "finished batches are saved; run the same command again"


def predict(
    address: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A study's name, models:/NAME@champion, or a model's folder."
        ),
    ],
    source_address: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Shards, or slides, images or features of slides that `raysearch shard` can read.",
        ),
    ],
    out: Annotated[str, typer.Argument(help="The folder for the scores.")],
    source_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Format of the images, as for `raysearch shard`. Default: detected from their"
            " layout.",
        ),
    ] = None,
    patient: Annotated[
        str | None,
        typer.Option(
            help="For slides, and for images of format folder or without labels: a regular"
            " expression whose first group is the patient."
        ),
    ] = None,
    task: Annotated[
        str, typer.Option(help="The task whose labels are copied from shards to the scores.")
    ] = "label",
    explain: Annotated[
        int,
        typer.Option(
            help="Number of Grad-CAM overlays, or of attention maps of slides, to write: of the"
            " errors with the highest confidence if labels are known."
        ),
    ] = 0,
    maps: Annotated[
        bool,
        typer.Option(
            "--maps",
            help="Also write the maps of all slides: probabilities, a frame around each positive"
            " patch, and tiles for QuPath.",
        ),
    ] = False,
    tiles: Annotated[
        bool,
        typer.Option("--tiles", help="For slides: also write the tiles as GeoJSON for QuPath."),
    ] = False,
    mpp: Annotated[
        float | None,
        typer.Option(
            metavar="MICROMETRES",
            help="For slides: the side of a pixel of the tiles. Default: as the model was trained.",
        ),
    ] = None,
    assumed_mpp: Annotated[
        float | None,
        typer.Option(
            "--assume-mpp",
            metavar="MICROMETRES",
            help="For slides that do not say the side of a pixel of their finest level: that side.",
        ),
    ] = None,
    depth: DepthOption = None,
    root: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="For a CSV file: the folder to which its paths are relative. Default: its folder.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Number of Ray workers. Default: score in this process.")
    ] = 0,
    allow_code: AllowCodeOption = False,
    studies: StudiesOption = STUDIES,
    as_json: JsonOption = False,
) -> int:
    """Predict the calibrated class probabilities of patches or slides.

    OUT contains `scores.parquet`, the same table as `scores.csv`, and `rejected.csv`. The same
    command resumes an interrupted run. Images are resized to the model's input size. If their
    layout has no known format, all images below SOURCE are scored without labels.

    Slides are cut into tiles as those of the training set. OUT then also contains `slides.csv`,
    `regions.csv`, and for each slide a probability map, an overlay, and regions for QuPath.

    Example: `raysearch predict first slides/8863 scores --explain 20`
    """
    trust_stored_code(allow_code)
    from raysearch.cli.progress_bar import step_progress
    from raysearch.data.files import Folder
    from raysearch.data.slides.slide_options import slide_options
    from raysearch.data.sources.listing import SourceOptions

    if min(explain, workers) < 0:
        raise StudyError(f"--explain {explain}, --workers {workers}: must be at least 0")
    code = SUPERVISOR.supervise(SAVED_BATCHES) if workers else None
    if code is not None:
        return code
    console = make_console(stderr=True)
    with console.status("Importing torch and MLflow"):
        from raysearch.inference.model_loading import load_model
        from raysearch.inference.score_sources import open_source

    model = load_model(address, studies)
    if maps and model.artifact.is_of_bags:
        raise StudyError(
            "--maps: has no effect with a model of slides, whose patches have no probabilities;"
            " --explain shows its attention"
        )
    with scratch_folder() as scratch:
        artifact = model.artifact
        slides = slide_options({"mpp": mpp, "assumed_mpp": assumed_mpp})
        options = SourceOptions(scratch, patient, depth=depth, root=root, slides=slides)
        try:
            with step_progress("Scoring") as on_progress:
                options = replace(options, progress=on_progress)
                source = open_source(
                    source_address,
                    source_format,
                    task,
                    artifact.shape,
                    options,
                    artifact.tile_settings,
                )
                _check_maps(source, maps=maps, tiles=tiles)
                summary = _predict(model, source, Folder(out), on_progress, workers)
        except KeyboardInterrupt:
            console.print(f"{INTERRUPTED}. Run the same command to resume.")
            raise
        if isinstance(summary, int):
            console.print(f"{INTERRUPTED}. Run the same command to resume.")
            return summary
        num_overlays = _write_overlays(model, source, Folder(out), explain)
        num_maps = _write_maps(model, source, Folder(out)) if maps else 0
        slide_summary = _write_slide_results(model, source, Folder(out), with_tiles=tiles)
    notes = [*_incomplete_notes(slide_summary, out), *_shift_notes(model, Folder(out))]
    if as_json:
        counts = {"num_overlays": num_overlays, "num_maps": num_maps}
        if slide_summary is not None:
            counts["num_slides"] = slide_summary.num_slides
        print_json({"out": out, **asdict(summary), **counts, "notes": notes})
        return 0
    sys.stdout.write(_summary_line(summary, out, model.artifact.unit))
    for note in notes:
        console.print(f"[yellow]Note[/]      {escape(note)}", soft_wrap=True)
    if num_overlays:
        kind = "Attention" if model.artifact.is_of_bags else "Overlays"
        console.print(f"{kind:9} {num_overlays} in {escape(out)}/explain", soft_wrap=True)
    if num_maps:
        console.print(f"{'Maps':9} of {num_maps} slides in {escape(out)}/maps", soft_wrap=True)
    if slide_summary is not None:
        console.print(
            f"{'Slides':9} {slide_summary.num_slides} in {escape(out)}/slides.csv; their maps and"
            f" regions in {escape(out)}/slides",
            soft_wrap=True,
        )
    return 0


def _check_maps(source: Source, *, maps: bool, tiles: bool) -> None:
    """Raise StudyError if `--maps` or `--tiles` has no effect with a source."""
    from raysearch.inference.tile_source import TileSource

    is_of_slides = isinstance(source, TileSource)
    if maps and is_of_slides:
        raise StudyError("--maps: has no effect with slides, whose maps are always written")
    if tiles and not is_of_slides:
        raise StudyError("--tiles: has an effect with slides only; remove it")


def _incomplete_notes(summary: SlideResultSummary | None, out: str) -> list[str]:
    """Return a note about slides without a result."""
    if summary is None or not summary.incomplete:
        return []
    names = listed_names(summary.incomplete)
    verb = "is" if len(summary.incomplete) == 1 else "are"
    return [f"{names} {verb} damaged, and not in slides.csv; see {out}/rejected.csv"]


def _shift_notes(model: Model, out: Folder) -> list[str]:
    """How the scores are unlike those of the training set, if its study is at hand."""
    from raysearch.inference.training_scores import shift_notes, written_scores

    if model.study is None:
        return []
    return shift_notes(model, written_scores(out, model.artifact.class_names))


def _summary_line(summary: PredictionSummary, out: str, unit: str) -> str:
    is_resumed = summary.num_new != summary.num_rows
    new_text = f", {summary.num_new:,} of them in this run" if is_resumed else ""
    rejected_text = f", see {out}/rejected.csv" if summary.num_rejected else ""
    return (
        f"{summary.num_rows:,} {unit} in {out}/scores.parquet and .csv{new_text};"
        f" {summary.num_rejected:,} rejected{rejected_text}\n"
    )


def _predict(
    model: Model, source: Source, out: Folder, on_progress: StepCallback, workers: int
) -> PredictionSummary | int:
    """Score the source; return the exit code if the run is interrupted."""
    from raysearch.inference.prediction import predict as score_source

    if not workers:
        return score_source(model, source, out, on_progress)
    from raysearch.search.engine.interrupts import InterruptedStudyError, RayLostError
    from raysearch.search.engine.ray_session import ray_session
    from raysearch.search.engine.worker_pool import run_on_workers

    try:
        with ray_session():
            execute = partial(run_on_workers, max_workers=workers)
            return score_source(model, source, out, on_progress, execute)
    except InterruptedStudyError as interrupt:
        return 128 + interrupt.signum
    except RayLostError as error:
        raise StudyError(f"{error}; {SAVED_BATCHES}") from None


def _write_overlays(model: Model, source: Source, out: Folder, max_overlays: int) -> int:
    if not max_overlays:
        return 0
    from raysearch.cli.progress_bar import file_progress
    from raysearch.inference.grad_cam_overlays import write_overlays

    if model.artifact.is_of_bags:
        from raysearch.inference.attention_maps import write_attention

        with file_progress("Explaining", model.artifact.unit) as on_progress:
            return write_attention(model, source, out, max_overlays, on_progress)
    with file_progress("Explaining", model.artifact.unit) as on_progress:
        return write_overlays(model, source, out, max_overlays, on_progress)


def _write_slide_results(
    model: Model, source: Source, out: Folder, *, with_tiles: bool
) -> SlideResultSummary | None:
    """Write the tables and the files of slides; return None for another source."""
    from raysearch.cli.progress_bar import file_progress
    from raysearch.inference.slide_results import write_slide_results
    from raysearch.inference.tile_source import TileSource

    if not isinstance(source, TileSource):
        return None
    with file_progress("Drawing the slides", "slides") as on_progress:
        return write_slide_results(
            model.artifact, source, out, with_tiles=with_tiles, on_progress=on_progress
        )


def _write_maps(model: Model, source: Source, out: Folder) -> int:
    """Write the maps of all slides; return their number."""
    from raysearch.cli.progress_bar import file_progress
    from raysearch.reports.slide_map_files import write_slide_maps

    artifact = model.artifact
    with file_progress("Stitching", artifact.unit) as on_progress:
        return write_slide_maps(source, out, artifact.shape, artifact.class_names, on_progress)
