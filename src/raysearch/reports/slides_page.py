"""The page with the maps of all slides of the held-out test set."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from raysearch.data.pseudonyms import DisplayedNames
from raysearch.data.quantities import quantity
from raysearch.data.shards.patches import Patches, load_patches
from raysearch.data.step_progress import StepCallback, StepProgress, ignore_progress
from raysearch.inference.image_rendering import Image, data_uri
from raysearch.metrics.evaluation import ScoredRows
from raysearch.metrics.row_units import SLIDES
from raysearch.reports.html_page import Picture, render_page
from raysearch.reports.report_pictures import scale_note
from raysearch.reports.slide_map import draw_errors, draw_heatmap, stitch_slide
from raysearch.reports.study_report import StudyReport
from raysearch.testing.held_out_test import held_out_test_set

# The larger side of a map and of a thumbnail in pixels: of more slides, the maps are smaller.
MAX_SIDES = ((50, 480), (200, 320))
SMALLEST_SIDE, THUMBNAIL_SIDE = 240, 160
DRAWING = "Drawing the slides of the test set"


@dataclass(frozen=True)
class SlidePictures:
    """The pictures of a slide.

    Attributes:
        anchor: Its identifier in the page.
        title: Its name and its patient.
        text: Its patches and its errors, in words.
        thumbnail: The map of the probabilities, small.
        maps: The slide, the probabilities, the true classes and the errors.
    """

    anchor: str
    title: str
    text: str
    thumbnail: Picture
    maps: tuple[Picture, ...]


def slides_page(
    report: StudyReport, names: DisplayedNames, on_progress: StepCallback = ignore_progress
) -> str | None:
    """Render the page with the maps of all slides of the held-out test set.

    The slide with the most errors is the first one. The predictions are the stored ones: no model
    is run.

    Args:
        report: The report of the study.
        names: The names that the page shows.
        on_progress: Called with the number of slides.

    Returns:
        The page; None if the champion was not evaluated on the set, or no position is known.

    Raises:
        DataError: If the shards are gone or damaged.
        StudyError: If the split manifest was changed.
    """
    if report.held_out is None or report.plan.unit == SLIDES:
        return None
    scored = report.held_out.scored
    patches = load_patches(report.plan.data, view=held_out_test_set(report.plan).view)
    if len(patches.labels) != len(scored.labels):
        return None
    is_placed = np.isfinite(patches.xs) & np.isfinite(patches.ys) & (patches.slides != "")
    keys = np.char.add(np.char.add(patches.patients, "\n"), patches.slides)
    is_error = scored.predicted != scored.labels
    rows_of = [np.flatnonzero(is_placed & (keys == key)) for key in np.unique(keys[is_placed])]
    if not rows_of:
        return None
    rows_of.sort(key=lambda rows: -int(is_error[rows].sum()))
    max_side = next((side for count, side in MAX_SIDES if len(rows_of) <= count), SMALLEST_SIDE)
    slides = []
    for number, rows in enumerate(rows_of):
        on_progress(StepProgress(DRAWING, number, len(rows_of), SLIDES))
        slides.append(_pictures(number, rows, patches, scored, names, max_side))
    on_progress(StepProgress(DRAWING, len(rows_of), len(rows_of), SLIDES))
    return render_page(
        "slides_page.html",
        title=f"Slides of the test set of {report.plan.name}",
        slides=slides,
        negative=scored.class_names[0],
        note=scale_note(report.plan.data).removeprefix("; "),
        num_without=int((~is_placed).sum()),
    )


def _pictures(
    number: int,
    rows: NDArray[np.int64],
    patches: Patches,
    scored: ScoredRows,
    names: DisplayedNames,
    max_side: int,
) -> SlidePictures:
    labels, predicted = scored.labels[rows], scored.predicted[rows]
    downsample = float(patches.downsamples[rows[0]])
    pixels = np.array(patches.pixels[rows]).reshape(-1, *patches.shape)
    slide_map = stitch_slide(pixels, patches.xs[rows] / downsample, patches.ys[rows] / downsample)
    negative = scored.class_names[0]
    probability = draw_heatmap(slide_map, (1 - scored.probabilities[rows, 0]).astype(np.float32))
    num_errors, num_positive = int((labels != predicted).sum()), int((labels > 0).sum())
    text = (
        f"{quantity(len(rows), 'patch')}, {num_positive:,} of another class than {negative};"
        f" {quantity(num_errors, 'error')}"
    )
    images = {
        "tissue": slide_map.image,
        f"probability of a class other than {negative}": probability,
        "true class": draw_heatmap(slide_map, (labels > 0).astype(np.float32)),
        "errors": draw_errors(slide_map, labels, predicted),
    }
    slide = names.slide(str(patches.slides[rows[0]]))
    title = f"{slide}, patient {names.patient(str(patches.patients[rows[0]]))}"
    return SlidePictures(
        f"slide-{number + 1}",
        title,
        text,
        _picture(probability, f"{title}: {text}", THUMBNAIL_SIDE),
        tuple(_picture(image, caption, max_side) for caption, image in images.items()),
    )


def _picture(image: Image, caption: str, max_side: int) -> Picture:
    """Return an image, scaled down by area to at most `max_side` pixels."""
    height, width = image.shape[:2]
    factor = max_side / max(height, width)
    if factor < 1:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return Picture(data_uri(image, "jpeg"), caption)
