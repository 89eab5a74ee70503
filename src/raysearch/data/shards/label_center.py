"""The square in the center of a patch on which its label depends, as in PatchCamelyon."""

from __future__ import annotations

import math
from collections.abc import Sequence

from raysearch.data.images.decoding import Size
from raysearch.data.sources.listing import Item, Listing
from raysearch.errors import DataError

UNCHANGED_SIZE = "as is"


def label_center(listing: Listing, center: int | None, size: Size) -> int | None:
    """Return the side of the square on which the labels of the patches depend, in their pixels.

    Args:
        listing: The source; the center that it knows is scaled with its images.
        center: The side that the user names, in pixels of the patches; None if it is not named.
        size: (width, height) of the patches.

    Returns:
        The side; None if the labels depend on the whole patch.

    Raises:
        DataError: If the square is larger than a patch, or padding would move it.
    """
    if center is not None:
        if not 1 <= center <= min(size):
            raise DataError(
                f"--center {center}: not a side in patches of {size[0]}x{size[1]} pixels; give 1 to"
                f" {min(size)}"
            )
        return center
    if listing.center is None or listing.size is None:
        return None
    scale = min(1.0, size[0] / listing.size[0], size[1] / listing.size[1])
    if any(round(side * scale) != target for side, target in zip(listing.size, size, strict=True)):
        width, height = listing.size
        raise DataError(
            f"--size {size[0]}x{size[1]}: would pad images of {width}x{height} pixels, whose labels"
            f" are of the {listing.center} pixels in their center; give a size of the same shape,"
            f" at most {width}x{height}"
        )
    return math.ceil(listing.center * scale)


def reject_resized(
    center: int | None, items: Sequence[Item], resize_modes: Sequence[str], size: Size
) -> None:
    """Check that no image was resized if the user names the square on which the labels depend.

    Args:
        center: The side that the user names, in pixels of the patches; None if it is not named.
        items: The decoded images.
        resize_modes: How each of them was brought to `size`.
        size: (width, height) of the patches.

    Raises:
        DataError: If an image was scaled or padded, which would scale or move its square.
    """
    if center is None:
        return
    for item, resize_mode in zip(items, resize_modes, strict=True):
        if resize_mode != UNCHANGED_SIZE:
            raise DataError(
                f"--center {center}: {item.file} is not of {size[0]}x{size[1]} pixels, so the"
                f" center of its patch ({resize_mode}) is not that of the image; give images of one"
                " size, and no other --size"
            )
