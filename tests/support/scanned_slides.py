"""Writes slides as scanners do, with tissue and tumor in polygons whose truth is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Pixels = NDArray[np.uint8]
Ring = Sequence[tuple[float, float]]
GLASS = (243, 243, 243)
# Eosin and hematoxylin.
TISSUE, TUMOR = (222, 150, 190), (110, 60, 150)
TILE = 256
MICROMETRES_PER_CM = 10_000


def paint(
    size: tuple[int, int], tissue: Sequence[Ring], tumor: Sequence[Ring], seed: int = 0
) -> Pixels:
    """Return a slide with tissue and tumor in polygons, RGB, shape (height, width, 3)."""
    image = Image.new("RGB", size, GLASS)
    draw = ImageDraw.Draw(image)
    for rings, color in ((tissue, TISSUE), (tumor, TUMOR)):
        for ring in rings:
            draw.polygon(list(ring), fill=color)
    pixels = np.asarray(image).astype(np.int16)
    pixels += np.random.default_rng(seed).integers(-6, 7, pixels.shape, np.int16)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def write_tiff(
    path: Path,
    pixels: Pixels,
    mpp: float | None = 0.5,
    *,
    levels: int = 3,
    compression: str = "deflate",
    description: str | None = None,
) -> Path:
    """Write a pyramidal, tiled TIFF file, whose levels are halved.

    Args:
        path: The file.
        pixels: Level 0.
        mpp: The resolution in its tags, in micrometres; None for none.
        levels: The number of levels.
        compression: `deflate` or `jpeg`.
        description: The description of its first page, such as Aperio's.
    """
    resolution = None if mpp is None else (MICROMETRES_PER_CM / mpp,) * 2
    with tifffile.TiffWriter(path) as file:
        for number in range(levels):
            side = 2**number
            height, width = (length // side * side for length in pixels.shape[:2])
            blocks = pixels[:height, :width].reshape(height // side, side, width // side, side, 3)
            level = blocks.mean((1, 3)).round().astype(np.uint8)
            file.write(
                level,
                tile=(TILE, TILE),
                photometric="rgb",
                compression=compression,
                subfiletype=0 if number == 0 else 1,
                resolution=None if resolution is None else tuple(r / side for r in resolution),
                resolutionunit="CENTIMETER" if resolution else None,
                description=description if number == 0 else None,
                metadata=None,
            )
    return path


def aperio_description(width: int, height: int, mpp: float) -> str:
    """Return the description by which OpenSlide recognizes a slide of Aperio."""
    return (
        f"Aperio Image Library v11.2.1 \r\n{width}x{height} [0,0 {width}x{height}] (256x256) JPEG/"
        f"RGB Q=70|AppMag = 20|ScanScope ID = SS1234|MPP = {mpp}"
    )


def write_ome_tiff(path: Path, pixels: Pixels, mpp: float = 0.5, *, levels: int = 3) -> Path:
    """Write an OME-TIFF file whose further levels are SubIFDs."""
    unit = "\N{MICRO SIGN}m"
    metadata = {
        "axes": "YXS",
        "PhysicalSizeX": mpp,
        "PhysicalSizeXUnit": unit,
        "PhysicalSizeY": mpp,
        "PhysicalSizeYUnit": unit,
    }
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(
            pixels,
            subifds=levels - 1,
            tile=(TILE, TILE),
            photometric="rgb",
            compression="deflate",
            metadata=metadata,
        )
        for number in range(1, levels):
            file.write(
                pixels[:: 2**number, :: 2**number],
                tile=(TILE, TILE),
                photometric="rgb",
                compression="deflate",
                subfiletype=1,
            )
    return path


def write_polygons(path: Path, regions: Sequence[tuple[str, Ring]]) -> Path:
    """Write polygons with their classes as QuPath exports them."""
    features = [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [np.array([*ring, ring[0]]).tolist()],
            },
            "properties": {
                "objectType": "annotation",
                "classification": {"name": name, "color": [200, 0, 0]},
            },
        }
        for name, ring in regions
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path
