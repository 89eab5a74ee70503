"""Renders the pictures of a report on slides: the attention of the champion to their patches."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from raysearch.data.pseudonyms import DisplayedNames
from raysearch.data.shards.bags import SlidePatches, read_slides
from raysearch.data.step_progress import StepCallback, StepProgress
from raysearch.inference.attention_maps import attention_image, slide_attention
from raysearch.inference.image_rendering import data_uri, encode_png
from raysearch.inference.model_loading import Model
from raysearch.metrics.row_units import SLIDES
from raysearch.reports.html_page import Picture
from raysearch.reports.study_report import StudyReport

# So many errors, and so many correct slides of each class, are shown.
MAX_ERRORS, MAX_CORRECT = 12, 2
EXPLAINING = "Explaining the slides"


def attention_pictures(
    report: StudyReport, model: Model, names: DisplayedNames, on_progress: StepCallback
) -> tuple[tuple[Picture, ...], tuple[Picture, ...], dict[str, bytes]]:
    """Render the attention to the slides that are most worth a look.

    Args:
        report: The report; its scores are of the folds' models, which did not train on the slides.
        model: The registered champion, whose attention is shown.
        names: The names that the captions show.
        on_progress: Called with the number of slides so far.

    Returns:
        The pictures of the errors, those of correct slides, and the PNG files by name. Slides whose
        positions are unknown are left out.
    """
    scored = report.out_of_fold.scored
    predicted = scored.predicted
    confidence = scored.probabilities[np.arange(len(predicted)), predicted]
    order = np.argsort(-confidence, kind="stable")
    is_error = (predicted != scored.labels)[order]
    errors = order[is_error][:MAX_ERRORS]
    correct = [
        index
        for label in range(len(scored.class_names))
        for index in _first(order[~is_error], scored.labels == label)
    ]
    shown = [*errors.tolist(), *correct]
    rows = [int(report.rows[index]) for index in shown]
    slides = read_slides(report.plan.data, report.plan.view, rows)
    pictures: dict[int, Picture] = {}
    files = {}
    for number, (index, row) in enumerate(zip(shown, rows, strict=True)):
        on_progress(StepProgress(EXPLAINING, number, len(shown), SLIDES))
        image = _attention_png(model, slides[row])
        if image is None:
            continue
        true = scored.class_names[scored.labels[index]]
        answer = scored.class_names[predicted[index]]
        caption = (
            f"true {true}, predicted {answer} ({confidence[index]:.3f}), slide"
            f" {names.slide(slides[row].slide)}, {len(slides[row].features):,} patches"
        )
        pictures[index] = Picture(image[0], caption, ("low", "high"))
        files[f"attention-{number + 1:02d}.png"] = image[1]
    on_progress(StepProgress(EXPLAINING, len(shown), len(shown), SLIDES))
    return _of(pictures, errors.tolist()), _of(pictures, correct), files


def _first(order: NDArray[np.int64], is_of_class: NDArray[np.bool_]) -> list[int]:
    return [index for index in order.tolist() if is_of_class[index]][:MAX_CORRECT]


def _of(pictures: dict[int, Picture], indices: Iterable[int]) -> tuple[Picture, ...]:
    return tuple(pictures[index] for index in indices if index in pictures)


def _attention_png(model: Model, slide: SlidePatches) -> tuple[str, bytes] | None:
    """Return the map of a slide as a data URI and as PNG; None if positions are unknown."""
    if slide.positions is None:
        return None
    image = attention_image(slide.positions, slide_attention(model, slide.features))
    return data_uri(image), encode_png(image)
