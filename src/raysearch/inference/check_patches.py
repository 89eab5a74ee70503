"""The patches on which an exported model is compared with its model: synthetic and real ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from raysearch.config.names import LABEL
from raysearch.data.audit.train_test_overlap import read_images, read_origins
from raysearch.data.files import Folder
from raysearch.data.scratch_folder import scratch_folder
from raysearch.data.shards.shard_manifest import MANIFEST_FILE, TileSettings, read_manifest
from raysearch.data.sources import is_slide_source
from raysearch.data.sources.listing import SourceOptions
from raysearch.data.synthetic import synthesize_patches
from raysearch.errors import DataError
from raysearch.inference.model_loading import Model, study_folder
from raysearch.inference.score_sources import ImageSource, open_source
from raysearch.search.study.stored_study import load_study

NUM_SYNTHETIC = 8
# Real patches: so many places of a set, and so many patches at each.
MAX_PLACES, PATCHES_OF_PLACE = 8, 8


@dataclass(frozen=True, eq=False)
class PatchSet:
    """Patches of one source.

    Attributes:
        name: What they are, in words.
        pixels: uint8, shape (N, H, W, 3).
    """

    name: str
    pixels: NDArray[np.uint8]


def example_patches(shape: tuple[int, int, int]) -> PatchSet:
    """Synthesize patches of a shape (H, W, 3): tissue, noise, black, white."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (NUM_SYNTHETIC, *shape), np.uint8)
    numbers = np.arange(NUM_SYNTHETIC // 2)
    tissue = synthesize_patches("4:8:0", numbers, numbers % 2, numbers)
    height, width = min(shape[0], tissue.shape[1]), min(shape[1], tissue.shape[2])
    pixels[: len(tissue), :height, :width] = tissue[:, :height, :width]
    pixels[-2], pixels[-1] = 0, 255
    return PatchSet("synthetic patches", pixels)


def training_patches(model: Model) -> PatchSet:
    """Read patches of the shards that a model was trained on, without the held-out test set.

    Raises:
        UserError: If the model's study or its shards are not at hand, or are damaged.
    """
    plan = load_study(study_folder(model)).plan
    if read_manifest(Folder(plan.data)).fingerprint != plan.fingerprint:
        raise DataError(f"{plan.data}: other shards than those of the study {plan.name!r}")
    visible = read_origins(plan.data, plan.view).row_numbers
    starts = _spread(max(1, len(visible) - PATCHES_OF_PLACE + 1), MAX_PLACES)
    places = (starts[:, None] + np.arange(PATCHES_OF_PLACE)).ravel()
    rows = visible[np.unique(places[places < len(visible)])]
    pixels = np.stack([image for _row, image in read_images(plan.data, rows)])
    return PatchSet(f"training patches of {plan.data}", pixels)


def source_patches(
    address: str, shape: tuple[int, int, int], tile_settings: TileSettings | None = None
) -> PatchSet:
    """Read patches of a source as `raysearch predict` reads them.

    Args:
        address: Path or address of shards, of images, or of slides.
        shape: (H, W, 3) of the model's input.
        tile_settings: How slides are cut into tiles; None if that is unknown.

    Raises:
        DataError: If there are none, or they cannot be read.
    """
    has_shards = Folder(address).exists(MANIFEST_FILE)
    if tile_settings is None and not has_shards and is_slide_source(address, None):
        raise DataError(
            f"{address}: a folder of slides, and the model does not say the size of the pixels that"
            " it was trained on; name shards or images"
        )
    with scratch_folder() as scratch:
        options = SourceOptions(scratch=scratch)
        source = open_source(address, None, LABEL, shape, options, tile_settings)
        if isinstance(source, ImageSource):
            source = replace(source, batch_size=PATCHES_OF_PLACE)
        numbers = _spread(source.num_batches, MAX_PLACES).tolist()
        # A row group of shards may have all of their patches.
        max_patches = MAX_PLACES * PATCHES_OF_PLACE // max(1, len(numbers))
        batches = []
        for number in numbers:
            inputs = np.asarray(source.read(number).inputs)
            batches.append(inputs[_spread(len(inputs), max_patches)])
        pixels = np.concatenate(batches).reshape(-1, *shape)
    if not len(pixels):
        raise DataError(f"{address}: none of the images could be decoded; name other images")
    return PatchSet(f"patches of {address}", pixels)


def _spread(count: int, max_selected: int) -> NDArray[np.int64]:
    """Select at most `max_selected` of the numbers below `count`, evenly spread."""
    selected = np.linspace(0, count - 1, min(count, max_selected))
    return np.asarray(selected.round(), np.int64)
