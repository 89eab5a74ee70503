"""Checks of spaces whose networks take bags: the features of the patches of slides."""

from __future__ import annotations

from collections.abc import Iterator

from raysearch.config.file_errors import FileError
from raysearch.config.names import BAG_ARCHITECTURES
from raysearch.config.space import Space

# What changes images, or starts from weights of a network of images.
IMAGE_HPARAMS = frozenset(
    (
        *("input_size", "resize", "weights", "adaptation", "normalization", "preprocess"),
        *("augment", "shift", "zoom", "rotation", "color_jitter", "stain_jitter", "cutout"),
        *("mixup_alpha", "tta", "blur_sigma", "clahe_clip_limit", "clahe_tile_grid"),
        *("features", "classifier", "l2_penalty", "num_neighbors", "feature_passes"),
        *("augmented_views", "trained_blocks"),
    )
)


def bag_errors(space: Space) -> Iterator[FileError]:
    """Yield the errors of a space with networks of bags."""
    architectures = list(map(str, space.values_of("architecture")))
    of_bags = [name for name in architectures if name in BAG_ARCHITECTURES]
    of_images = [name for name in architectures if name not in BAG_ARCHITECTURES]
    if of_bags and of_images:
        yield FileError(
            ("space", "architecture"),
            f"{of_bags[0]} takes features of slides, and {of_images[0]} images; choose networks of"
            " one kind",
        )
    elif of_bags:
        for hparam in space.hparams:
            if hparam.name in IMAGE_HPARAMS:
                yield FileError(
                    ("space", hparam.name),
                    f"`{hparam.name}` has no effect with `architecture: {of_bags[0]}`; remove it",
                )
