"""Patch classifiers: network architectures, preprocessing, pretrained weights, Grad-CAM."""

from raysearch.metrics.row_units import PATCHES, SLIDES

PatchShape = tuple[int, int, int]  # (height, width, channels); of bags (patches, features, 1)
# By a slide with so many patches, a network is timed; some slides have a hundred times as many.
MAX_TIMED_PATCHES = 1024


def is_bag_shape(shape: PatchShape) -> bool:
    """Return whether `shape` is that of bags, (patches, features, 1)."""
    return shape[2] == 1


def row_unit(shape: PatchShape) -> str:
    """Return what a row of inputs of `shape` is: `SLIDES` of bags, else `PATCHES`."""
    return SLIDES if is_bag_shape(shape) else PATCHES


def timed_shape(shape: PatchShape) -> PatchShape:
    """Return the shape of the inputs by which a network is timed: of bags, not too many patches."""
    return (min(shape[0], MAX_TIMED_PATCHES), *shape[1:]) if is_bag_shape(shape) else shape
