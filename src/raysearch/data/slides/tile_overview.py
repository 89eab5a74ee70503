"""Draws the contact sheet of a slide: its thumbnail, the outline of its tissue, and its tiles."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from raysearch.data.slides.tile_grid import TileGrid
from raysearch.data.slides.tissue_mask import TissueMask

# The larger side of the picture, in pixels.
MIN_SIDE, MAX_SIDE = 800, 1600
TISSUE_COLOR = (0, 128, 0)
UNLABELED_COLOR = (128, 128, 128)
# The colors of classes by their number, which readers with color blindness can tell apart: Okabe
# and Ito, Color Universal Design (2008).
CLASS_COLORS = (
    *((0, 114, 178), (213, 94, 0), (230, 159, 0), (204, 121, 167)),
    *((86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 0, 0)),
)
LINE_HEIGHT, MARGIN = 16, 4


def draw_contact_sheet(
    title: str,
    mask: TissueMask,
    grid: TileGrid,
    left: NDArray[np.int64],
    top: NDArray[np.int64],
    class_names: Sequence[str | None],
) -> bytes:
    """Draw the contact sheet of a slide as PNG.

    Args:
        title: The first line above the picture.
        mask: The tissue of the slide.
        grid: The grid of its tiles.
        left: The left side of each tile in pixels of level 0, shape (n,).
        top: The top side of each, shape (n,).
        class_names: The class of each tile; None for one without a class.
    """
    height, width = mask.is_tissue.shape
    factor = min(MAX_SIDE, max(MIN_SIDE, width, height)) / max(width, height)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    picture = Image.fromarray(
        cv2.resize(
            mask.thumbnail, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        )
    )
    scale = factor / mask.pixel_size
    names = sorted({name for name in class_names if name is not None})
    colors = {name: CLASS_COLORS[index % len(CLASS_COLORS)] for index, name in enumerate(names)}
    draw = ImageDraw.Draw(picture, "RGBA")
    contours, _hierarchy = cv2.findContours(
        mask.is_tissue.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    for contour in contours:
        points = [tuple(point) for point in (contour[:, 0, :] * factor).tolist()]
        if len(points) > 1:
            draw.line([*points, points[0]], fill=(*TISSUE_COLOR, 255))
    for x, y, name in zip(left.tolist(), top.tolist(), class_names, strict=True):
        color = UNLABELED_COLOR if name is None else colors[name]
        corner = ((x - mask.left) * scale, (y - mask.top) * scale)
        opposite = (corner[0] + grid.side[0] * scale, corner[1] + grid.side[1] * scale)
        draw.rectangle([corner, opposite], outline=(*color, 255), fill=(*color, 60))
    counts = [f"{sum(name == each for each in class_names):,} {name}" for name in names]
    num_unlabeled = sum(name is None for name in class_names)
    counts += [f"{num_unlabeled:,} without a class"] if num_unlabeled else []
    legend = list(zip([*names, None], counts, strict=False))
    sheet = Image.new(
        "RGB",
        (max(size[0], 300), size[1] + LINE_HEIGHT * (1 + len(legend)) + 2 * MARGIN),
        (255, 255, 255),
    )
    text = ImageDraw.Draw(sheet)
    text.text((MARGIN, MARGIN), title, fill=(0, 0, 0))
    for number, (name, label) in enumerate(legend, start=1):
        line = MARGIN + number * LINE_HEIGHT
        color = UNLABELED_COLOR if name is None else colors[name]
        text.rectangle([MARGIN, line + 2, MARGIN + 10, line + 12], fill=color)
        text.text((MARGIN + 16, line), label, fill=(0, 0, 0))
    sheet.paste(picture, (0, sheet.height - size[1]))
    content = BytesIO()
    sheet.save(content, "PNG")
    return content.getvalue()
