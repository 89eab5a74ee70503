"""Renders the pictures of a report: errors with Grad-CAM overlays, and maps of a slide."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from raysearch.data.array_cache import ArrayCache
from raysearch.data.files import Folder
from raysearch.data.pseudonyms import DisplayedNames
from raysearch.data.shards.patches import Patches, load_patches
from raysearch.data.shards.shard_manifest import read_manifest
from raysearch.data.step_progress import StepCallback, StepProgress, ignore_progress
from raysearch.inference.grad_cam_overlays import grad_cam_heatmaps, overlay_image
from raysearch.inference.image_rendering import Floats, Image, data_uri, encode_png
from raysearch.inference.model_loading import Model
from raysearch.metrics.row_units import PATCHES
from raysearch.reports.attention_pictures import attention_pictures
from raysearch.reports.html_page import Picture
from raysearch.reports.slide_map import (
    SCALED,
    draw_errors,
    draw_frames,
    draw_heatmap,
    stitch_slide,
    tiles_geojson,
)
from raysearch.reports.study_report import StudyReport

MAX_ERRORS = 24
GRAD_CAM_BATCH_SIZE = 64
EXPLAINING_ERRORS, EXPLAINING_SLIDE = "Explaining the errors", "Explaining the slide"
# Computes the heatmaps (N, h, w) of a step, of patches (N, H, W, 3) for classes (N,).
Explain = Callable[[str, Image, NDArray[np.int64]], Floats]


@dataclass(frozen=True)
class ReportPictures:
    """The pictures of a report.

    Attributes:
        errors: The out-of-fold errors with the highest confidence, with Grad-CAM overlays.
        slide: The slide with the most patches; empty if positions are unknown.
        slide_maps: Maps of that slide.
        files: The maps as PNG files, and GeoJSON for QuPath unless patches were scaled, by file
            name.
        attention: Of a model of slides, its attention to slides that are predicted correctly; the
            errors are such pictures, too. None of a model of patches.
    """

    errors: tuple[Picture, ...] = ()
    slide: str = ""
    slide_maps: tuple[Picture, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    attention: tuple[Picture, ...] | None = None


def report_pictures(
    report: StudyReport,
    model: Model,
    names: DisplayedNames,
    on_progress: StepCallback = ignore_progress,
) -> ReportPictures:
    """Render the pictures of the out-of-fold predictions.

    Args:
        report: The report; its scores are of the folds' models, which did not train on the patches.
        model: The registered champion, which did; only the Grad-CAM heatmaps are computed with it.
        names: The names that the captions show.
        on_progress: Called with the number of patches whose heatmaps are computed.
    """
    if model.artifact.is_of_bags:
        errors, correct, files = attention_pictures(report, model, names, on_progress)
        return ReportPictures(errors, attention=correct, files=files)
    patches = load_patches(report.plan.data, view=report.plan.view)
    cache = ArrayCache("heatmaps", model.content_hash)
    explain = partial(_heatmaps, model, cache, on_progress)
    errors = _error_pictures(report, explain, patches, names)
    if report.slides is None:
        cache.remove()
        return ReportPictures(errors)
    slides, counts = np.unique(report.slides, return_counts=True)
    slide = str(slides[counts.argmax()])
    on_slide = np.flatnonzero(report.slides == slide)
    slide_maps, files = _slide_maps(report, explain, patches, on_slide)
    cache.remove()
    return ReportPictures(errors, names.slide(slide), slide_maps, files)


def _error_pictures(
    report: StudyReport, explain: Explain, patches: Patches, names: DisplayedNames
) -> tuple[Picture, ...]:
    scored = report.out_of_fold.scored
    predicted = scored.predicted
    confidence = scored.probabilities[np.arange(len(predicted)), predicted]
    errors = np.flatnonzero(predicted != scored.labels)
    order = np.argsort(-confidence[errors], kind="stable")
    shown = errors[order][:MAX_ERRORS]
    if not len(shown):
        return ()
    pixels = _pixels(patches, report.rows[shown])
    heatmaps = explain(EXPLAINING_ERRORS, pixels, predicted[shown])
    class_names = scored.class_names
    return tuple(
        Picture(
            data_uri(overlay_image(patch, heatmap)),
            f"true {class_names[scored.labels[row]]}, predicted {class_names[predicted[row]]}"
            f" ({confidence[row]:.3f}), patient {names.patient(str(scored.patients[row]))}",
        )
        for row, patch, heatmap in zip(shown.tolist(), pixels, heatmaps, strict=True)
    )


def _pixels(patches: Patches, rows: NDArray[np.int64]) -> Image:
    """Return patches (N, H, W, C) by their rows (N,)."""
    return np.array(patches.pixels[rows]).reshape(-1, *patches.shape)


def _slide_maps(
    report: StudyReport, explain: Explain, patches: Patches, on_slide: NDArray[np.int64]
) -> tuple[tuple[Picture, ...], dict[str, bytes]]:
    """Return the maps of the patches `on_slide`, indices of out-of-fold rows, and their files."""
    rows, scored = report.rows[on_slide], report.out_of_fold.scored
    pixels, labels = _pixels(patches, rows), scored.labels[on_slide]
    predicted, probabilities = scored.predicted[on_slide], scored.probabilities[on_slide]
    xs, ys, downsample = patches.xs[rows], patches.ys[rows], float(patches.downsamples[rows[0]])
    slide_map = stitch_slide(pixels, xs / downsample, ys / downsample)
    positive_probability = (1 - probabilities[:, 0]).astype(np.float32)
    heatmaps = explain(EXPLAINING_SLIDE, pixels, predicted)
    negative, num_errors = scored.class_names[0], int((labels != predicted).sum())
    note = scale_note(report.plan.data)
    images = {
        "tissue": (
            slide_map.image,
            f"{len(on_slide):,} patches at their positions, on white{note}",
        ),
        "probability": (
            draw_heatmap(slide_map, positive_probability),
            f"probability of a class other than {negative}",
        ),
        "truth": (
            draw_heatmap(slide_map, (labels > 0).astype(np.float32)),
            "true class",
        ),
        "frames": (
            draw_frames(slide_map, predicted > 0),
            f"{int((predicted > 0).sum()):,} patches that are predicted to be of a class other than"
            f" {negative}, each with a frame",
        ),
        "errors": (
            draw_errors(slide_map, labels, predicted),
            f"{num_errors:,} errors; a red frame with a diagonal is a false negative, a blue frame"
            " is a false positive",
        ),
        "activation": (
            draw_heatmap(slide_map, heatmaps),
            "Grad-CAM activation of the champion in each patch",
        ),
    }
    scales = {
        "probability": ("0", "1"),
        "truth": (negative, "another class"),
        "activation": ("low", "high"),
    }
    pictures = tuple(
        Picture(data_uri(image, "jpeg"), f"{name}: {caption}", scales.get(name))
        for name, (image, caption) in images.items()
    )
    files = {f"slide-{name}.png": encode_png(image) for name, (image, _caption) in images.items()}
    if note:  # the side of a tile in the slide is unknown
        return pictures, files
    files["slide.geojson"] = tiles_geojson(
        xs,
        ys,
        (patches.shape[0] * downsample, patches.shape[1] * downsample),
        probabilities,
        predicted,
        [scored.class_names[label] for label in labels.tolist()],
        scored.class_names,
    )
    return pictures, files


def scale_note(data: str) -> str:
    """Say that patches of the shards at `data` were scaled; empty if none was.

    Positions are in pixels of the slide, and the sides of scaled patches are not.
    """
    manifest = read_manifest(Folder(data))
    num_scaled = sum(count for mode, count in manifest.resize_modes.items() if SCALED in mode)
    if not num_scaled:
        return ""
    height, width = manifest.shape[:2]
    return (
        f"; {num_scaled:,} patches of the shards were scaled to {width}x{height} pixels, and are"
        " drawn smaller than in the slide"
    )


def _heatmaps(
    model: Model,
    cache: ArrayCache,
    on_progress: StepCallback,
    step: str,
    pixels: Image,
    predicted: NDArray[np.int64],
) -> Floats:
    """Return the Grad-CAM heatmaps (N, h, w) for the predicted classes, computed in batches."""
    heatmaps = []
    for start in range(0, len(pixels), GRAD_CAM_BATCH_SIZE):
        on_progress(StepProgress(step, start, len(pixels), PATCHES))
        batch = slice(start, start + GRAD_CAM_BATCH_SIZE)
        heatmaps.append(_batch_heatmaps(model, cache, pixels[batch], predicted[batch]))
    on_progress(StepProgress(step, len(pixels), len(pixels), PATCHES))
    return np.concatenate(heatmaps)


def _batch_heatmaps(
    model: Model, cache: ArrayCache, pixels: Image, predicted: NDArray[np.int64]
) -> Floats:
    """Return the heatmaps of a batch, which an interrupted report may have computed."""
    content = repr(pixels.shape).encode() + predicted.tobytes() + pixels.tobytes()
    name = hashlib.sha256(content).hexdigest()
    stored = (cache.read(name) or {}).get("heatmaps")
    if stored is not None and stored.shape == pixels.shape[:3] and stored.dtype == np.float32:
        return stored
    heatmaps = grad_cam_heatmaps(model, pixels, predicted)
    cache.write(name, {"heatmaps": heatmaps})
    return heatmaps
