"""Renders Grad-CAM overlays: a patch next to its heatmap, with a frame."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.data.files import Folder
from raysearch.data.parquet_files import read_parquet
from raysearch.data.shards.bags import Bags
from raysearch.inference.image_rendering import Floats, Image, encode_png, viridis
from raysearch.inference.model_loading import Model, ProgressCallback, no_progress
from raysearch.inference.prediction import SCORES
from raysearch.inference.score_batches import Batch, Source
from raysearch.models.grad_cam import grad_cam, peak_region

OVERLAYS = "explain"
# Smaller patches are enlarged by an integer factor, in pixels.
MIN_SIDE = 200
GAP_WIDTH = 4
HEATMAP_OPACITY = 0.45
FRAME_COLOR = (255, 255, 255)
FRAME_BORDER_COLOR = (0, 0, 0)
# What a part of a file's name has no more of, and what is replaced in it.
MAX_STEM, UNUSUAL = 60, re.compile(r"[^\w.-]")


def write_overlays(
    model: Model,
    source: Source,
    out: Folder,
    max_overlays: int,
    on_progress: ProgressCallback = no_progress,
) -> int:
    """Write Grad-CAM overlays of the patches in `out` that are most worth a look.

    If the source has labels, these are the errors with the highest confidence. Otherwise, they are
    the patches with the highest confidence among those not predicted as the first class.

    Args:
        model: The model that scored the patches.
        source: The source that was scored.
        out: The folder with the scores; the overlays are written to its subfolder `explain`.
        max_overlays: The maximum number of overlays.
        on_progress: Called with the number of explained patches, and of all that are explained.

    Returns:
        The number of overlays.
    """
    class_names = model.artifact.class_names
    explained = explained_rows(out, class_names, max_overlays)
    num_written = 0
    on_progress(0, len(explained))
    for path, pixels in _read_patches(source, set(explained)):
        scores = explained[path].scores
        predicted = int(scores.argmax())
        patch = pixels.reshape(1, *model.artifact.shape)
        overlay = overlay_image(patch[0], grad_cam_heatmaps(model, patch, np.array([predicted]))[0])
        class_name = class_names[predicted].replace("/", "_")
        stem = file_stem(path.replace("#", "-"))
        rank = explained[path].rank
        name = f"{rank + 1:04d}-{class_name}-{scores[predicted]:.3f}-{stem}.png"
        out.write(f"{OVERLAYS}/{name}", encode_png(overlay))
        num_written += 1
        on_progress(num_written, len(explained))
    return num_written


@dataclass(frozen=True)
class ExplainedRow:
    """A row of the scores that is explained: its rank, from 0, and its scores, shape (C,)."""

    rank: int
    scores: NDArray[np.float64]


def explained_rows(
    out: Folder, class_names: tuple[str, ...], max_rows: int
) -> dict[str, ExplainedRow]:
    """Return the rows of the scores in `out` that are most worth a look, by their paths."""
    table = read_parquet(out.read(SCORES))
    scores = np.column_stack([table[f"score_{name}"].to_numpy() for name in class_names])
    rows = _rows_to_explain(scores, table["label"].to_pylist(), class_names)[:max_rows]
    paths = table["path"].to_pylist()
    return {paths[row]: ExplainedRow(rank, scores[row]) for rank, row in enumerate(rows.tolist())}


def file_stem(path: str) -> str:
    """Return the name in `path`, without its suffix, as a part of the name of a new file.

    A name of a source may be longer than a file system allows, or have control characters.
    """
    return UNUSUAL.sub("_", PurePosixPath(path).stem)[:MAX_STEM]


def _rows_to_explain(
    scores: NDArray[np.float64], labels: list[str | None], class_names: tuple[str, ...]
) -> NDArray[np.int64]:
    """Return the rows that are most worth a look, the highest confidence first."""
    predicted = scores.argmax(axis=1)
    true = np.array([class_names.index(name) if name in class_names else -1 for name in labels])
    is_labelled = true >= 0
    selected = is_labelled & (true != predicted) if is_labelled.any() else predicted > 0
    rows = np.flatnonzero(selected)
    return rows[np.argsort(-scores[rows, predicted[rows]], kind="stable")]


def _read_patches(source: Source, paths: set[str]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield path and pixels of the patches at `paths`, in the order of the source."""
    pending = set(paths)
    for number in range(source.num_batches):
        if not pending:
            return
        batch = source.read(number)
        for item, pixels in zip(batch.items, _pixels(batch), strict=True):
            if item.file in pending:
                pending.remove(item.file)
                yield item.file, pixels


def _pixels(batch: Batch) -> NDArray[np.uint8]:
    if isinstance(batch.inputs, Bags):
        raise TypeError("slides have no Grad-CAM")
    return batch.inputs


def grad_cam_heatmaps(model: Model, pixels: Image, labels: NDArray[np.int64]) -> Floats:
    """Compute the Grad-CAM heatmap of each patch for one class.

    Args:
        model: The model.
        pixels: Patches, uint8 (N, H, W, 3).
        labels: The class that each heatmap explains, (N,).

    Returns:
        Heatmaps from 0 to 1, float32 (N, H, W).
    """
    device = next(model.classifier.parameters()).device
    batch = torch.from_numpy(np.ascontiguousarray(pixels)).to(device)
    heatmaps = grad_cam(model.classifier, batch, torch.from_numpy(labels).to(device))
    return np.asarray(heatmaps.numpy(), np.float32)


def overlay_image(patch: Image, heatmap: Floats) -> Image:
    """Render a patch, and next to it the same patch under its heatmap.

    Args:
        patch: RGB pixels (H, W, 3).
        heatmap: The heatmap of the patch, (H, W); the region around its maximum is framed.

    Returns:
        An RGB image; patches with a side below `MIN_SIDE` are enlarged.
    """
    scale = max(1, -(-MIN_SIDE // max(patch.shape[:2])))
    left_image = np.repeat(np.repeat(patch, scale, axis=0), scale, axis=1)
    size = (left_image.shape[1], left_image.shape[0])
    large_heatmap = cv2.resize(heatmap, size, interpolation=cv2.INTER_LINEAR)
    colors = viridis(np.asarray(large_heatmap, np.float32))
    blended = cv2.addWeighted(left_image, 1 - HEATMAP_OPACITY, colors, HEATMAP_OPACITY, 0)
    right_image = np.asarray(blended, np.uint8)
    region = peak_region(torch.from_numpy(np.ascontiguousarray(heatmap)))
    if region is not None:
        left, top, right, bottom = (bound * scale for bound in region)
        corner = (right + scale - 1, bottom + scale - 1)
        cv2.rectangle(right_image, (left, top), corner, FRAME_BORDER_COLOR, 3)
        cv2.rectangle(right_image, (left, top), corner, FRAME_COLOR, 1)
    gap = np.full((left_image.shape[0], GAP_WIDTH, 3), 255, np.uint8)
    return np.concatenate([left_image, gap, right_image], axis=1)
