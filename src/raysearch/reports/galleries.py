"""The pictures of a report: the errors that the champion was surest of, and the largest slide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from raysearch.data.shards.patches import Patches, load_patches
from raysearch.inference.grad_cam_overlays import grad_cam_heatmaps, overlay_image
from raysearch.inference.image_rendering import Image, data_uri, encode_png
from raysearch.inference.model_loading import Model
from raysearch.reports.slide_map import error_map, geojson, heat_map, stitched
from raysearch.reports.study_report import Report

ERRORS = 24
AT_ONCE = 256


@dataclass(frozen=True)
class Picture:
    """An image as an address that holds it, and what it shows in words."""

    uri: str
    text: str


@dataclass(frozen=True)
class Pictures:
    """Those of a report; `files` are the same to open elsewhere, by their names."""

    errors: list[Picture] = field(default_factory=list)
    slide: str = ""
    maps: list[Picture] = field(default_factory=list)
    files: Mapping[str, bytes] = field(default_factory=dict)


def report_pictures(report: Report, model: Model) -> Pictures:
    """Those of the study's own folds.

    `model`, the champion as it is used, says what decided; it learned from these patches, and the
    scores are of the folds' models, which did not.
    """
    patches = load_patches(report.plan.data, view=report.plan.view)
    errors = _errors(report, model, patches)
    if report.slides is None:
        return Pictures(errors)
    slides, counts = np.unique(report.slides, return_counts=True)
    slide = str(slides[counts.argmax()])
    maps, files = _maps(report, model, patches, np.flatnonzero(report.slides == slide))
    return Pictures(errors, slide, maps, files)


def _errors(report: Report, model: Model, patches: Patches) -> list[Picture]:
    scored = report.sets[0].scored
    predicted = scored.predicted
    sure = scored.probabilities[np.arange(len(predicted)), predicted]
    wrong = np.flatnonzero(predicted != scored.labels)
    some = wrong[np.argsort(-sure[wrong], kind="stable")][:ERRORS]
    if not len(some):
        return []
    pixels = _pixels(patches, report.rows[some])
    found = grad_cam_heatmaps(model, pixels, predicted[some])
    names = scored.class_names
    return [
        Picture(
            data_uri(overlay_image(patch, heat)),
            f"{names[scored.labels[row]]} decided as {names[predicted[row]]} ({sure[row]:.3f}),"
            f" patient {scored.patients[row]}",
        )
        for row, patch, heat in zip(some.tolist(), pixels, found, strict=True)
    ]


def _pixels(patches: Patches, rows: NDArray[np.int64]) -> Image:
    return np.array(patches.pixels[rows]).reshape(-1, *patches.shape)


def _maps(
    report: Report, model: Model, patches: Patches, here: NDArray[np.int64]
) -> tuple[list[Picture], dict[str, bytes]]:
    rows, scored = report.rows[here], report.sets[0].scored
    pixels, labels = _pixels(patches, rows), scored.labels[here]
    predicted, given = scored.predicted[here], scored.probabilities[here]
    whole = stitched(pixels, patches.xs[rows], patches.ys[rows])
    beyond = (1 - given[:, 0]).astype(np.float32)
    heat = np.concatenate(
        [
            grad_cam_heatmaps(model, pixels[one : one + AT_ONCE], predicted[one : one + AT_ONCE])
            for one in range(0, len(pixels), AT_ONCE)
        ]
    )
    first, wrong = scored.class_names[0], int((labels != predicted).sum())
    images = {
        "tissue": (whole.image, f"{len(here):,} patches where they were cut from, on white"),
        "probability": (
            heat_map(whole, beyond),
            f"the probability of another class than {first}: yellow is 1, violet 0",
        ),
        "truth": (
            heat_map(whole, (labels > 0).astype(np.float32)),
            f"what is known: yellow is another class than {first}, violet is {first}",
        ),
        "errors": (
            error_map(whole, labels, predicted),
            f"{wrong:,} errors: red and crossed was missed, blue was taken for one",
        ),
        "activation": (heat_map(whole, heat), "where in each patch the champion looked"),
    }
    maps = [
        Picture(data_uri(image, "jpeg"), f"{name}: {text}")
        for name, (image, text) in images.items()
    ]
    files = {f"slide-{name}.png": encode_png(image) for name, (image, _text) in images.items()}
    side = patches.shape[:2]
    files["slide.geojson"] = geojson(
        patches.xs[rows], patches.ys[rows], side, given, labels, scored.class_names
    )
    return maps, files
