"""Renders the attention of a model to the patches of slides."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.data.csv_files import csv_content
from raysearch.data.files import Folder
from raysearch.data.shards.bags import Bags
from raysearch.inference.grad_cam_overlays import OVERLAYS, explained_rows, file_stem
from raysearch.inference.image_rendering import Floats, Image, encode_png, viridis
from raysearch.inference.model_loading import Model, ProgressCallback, no_progress
from raysearch.inference.score_batches import Source
from raysearch.models.architectures.bag_networks import BagNetwork
from raysearch.models.classifier import BagClassifier, Ensemble

# The largest side of a map, and of a patch in it, in pixels.
MAX_SIDE, MAX_PATCH_SIDE = 1000, 24
BACKGROUND = 255
# The columns of the file with the attention of a slide.
COLUMNS = ("x", "y", "attention")


@torch.inference_mode()
def slide_attention(model: Model, features: NDArray[np.float16]) -> Floats:
    """Compute the attention of a model to the patches of a slide.

    Args:
        model: The model; of an ensemble, the mean over its members.
        features: The features of the patches, shape (n, D).

    Returns:
        The attention, float32, shape (n,); its sum is 1.

    Raises:
        TypeError: If the model takes no slides.
    """
    device = next(model.classifier.parameters()).device
    batch = torch.from_numpy(features.astype(np.float32)).to(device)[None, None]
    attention = [network.attention(batch)[0].float().cpu() for network in _networks(model)]
    return np.asarray(torch.stack(attention).mean(dim=0).numpy(), np.float32)


def _networks(model: Model) -> list[BagNetwork]:
    classifier = model.classifier
    members = classifier.members if isinstance(classifier, Ensemble) else [classifier]
    networks = [member.net for member in members if isinstance(member, BagClassifier)]
    of_bags = [network for network in networks if isinstance(network, BagNetwork)]
    if not of_bags:
        raise TypeError("the model takes no slides")
    return of_bags


def attention_image(positions: NDArray[np.int32], attention: Floats) -> Image:
    """Render the attention at the positions of the patches, on white.

    The color of a patch is the rank of its attention in the slide: a few patches may have nearly
    all of it.

    Args:
        positions: The left and the top side of each patch on the slide in pixels, shape (n, 2).
        attention: The attention of each patch, shape (n,).
    """
    columns, rows = (_grid(positions[:, axis]) for axis in (0, 1))
    num_columns, num_rows = int(columns.max()) + 1, int(rows.max()) + 1
    side = max(1, min(MAX_PATCH_SIDE, MAX_SIDE // max(num_columns, num_rows)))
    cells = np.full((num_rows, num_columns, 3), BACKGROUND, np.uint8)
    cells[rows, columns] = viridis(attention_ranks(attention))
    return np.asarray(cells.repeat(side, axis=0).repeat(side, axis=1))


def attention_ranks(attention: Floats) -> Floats:
    """Return the ranks of attention (n,), from 0 for the lowest to 1 for the highest.

    Equal attention has one rank; if all is equal, it is 0.
    """
    largest = max(float(attention.max()), 1e-12)
    # Equal values differ by rounding.
    distinct, ranks = np.unique(np.round(attention / largest, 5), return_inverse=True)
    return np.asarray(ranks / max(1, len(distinct) - 1), np.float32)


def _grid(values: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the column, or the row, of each position; patches are next to each other."""
    distinct = np.unique(values)
    step = int(np.diff(distinct).min()) if len(distinct) > 1 else 1
    offsets = values.astype(np.int64) - int(distinct[0])
    cells = offsets // max(step, -(-int(offsets.max() + 1) // MAX_SIDE))
    return np.asarray(cells)


def write_attention(
    model: Model,
    source: Source,
    out: Folder,
    max_slides: int,
    on_progress: ProgressCallback = no_progress,
) -> int:
    """Write the attention to the patches of the slides in `out` that are most worth a look.

    Each has a CSV file with the position and the attention of each patch, and an image if the
    positions are known. The slides are selected as `write_overlays` selects patches.

    Args:
        model: The model that scored the slides.
        source: The source that was scored.
        out: The folder with the scores; the files are written to its subfolder `explain`.
        max_slides: The largest number of slides.
        on_progress: Called with the number of explained slides, and of all that are explained.

    Returns:
        The number of slides.
    """
    explained = explained_rows(out, model.artifact.class_names, max_slides)
    num_written, number = 0, 0
    on_progress(0, len(explained))
    while num_written < len(explained) and number < source.num_batches:
        batch = source.read(number)
        number += 1
        if not isinstance(batch.inputs, Bags):
            raise TypeError("the source has no slides")
        for index, item in enumerate(batch.items):
            if item.file not in explained:
                continue
            attention = slide_attention(model, batch.inputs[index])
            name = f"{OVERLAYS}/{explained[item.file].rank + 1:04d}-{file_stem(item.file)}"
            _write_slide(out, name, batch.positions[index], attention)
            num_written += 1
            on_progress(num_written, len(explained))
    return num_written


def _write_slide(
    out: Folder, name: str, positions: NDArray[np.int32] | None, attention: Floats
) -> None:
    corners = [("", "")] * len(attention) if positions is None else positions.tolist()
    rows = [
        (str(left), str(top), f"{value:.6g}")
        for (left, top), value in zip(corners, attention.tolist(), strict=True)
    ]
    out.write(f"{name}.csv", csv_content(COLUMNS, rows))
    if positions is not None:
        out.write(f"{name}.png", encode_png(attention_image(positions, attention)))
