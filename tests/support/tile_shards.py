"""Shards of tiles of slides, which record the side of their pixels."""

from __future__ import annotations

from pathlib import Path

from raysearch.data.shards.sharding import write_shards
from raysearch.data.slides.slide_options import SlideOptions
from raysearch.data.sources.listing import SourceOptions
from support.scanned_slides import Ring, paint, write_polygons, write_tiff

WIDTH, HEIGHT = 200, 150
TISSUE: Ring = [(0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT)]
TUMOR: Ring = [(0, 0), (WIDTH // 2, 0), (WIDTH // 2, HEIGHT), (0, HEIGHT)]


def tile_shards(folder: Path, mpp: float, side: int, num_slides: int = 6) -> Path:
    """Cut slides of as many patients, tumor on their left, into square tiles.

    Args:
        folder: An existing folder, which gets the slides and the shards.
        mpp: The side of a pixel of the slides and of the tiles, in micrometres.
        side: The side of a tile in pixels.
        num_slides: The number of slides.
    """
    slides, annotations, labels = (folder / name for name in ("slides", "regions", "slides.csv"))
    slides.mkdir()
    for number in range(num_slides):
        pixels = paint((WIDTH, HEIGHT), [TISSUE], [TUMOR], number)
        write_tiff(slides / f"case{number}.tiff", pixels, mpp, levels=1)
        regions = [("Stroma", TISSUE), ("Tumor", TUMOR)]
        write_polygons(annotations / f"case{number}.geojson", regions)
    lines = ["slide,patient", *(f"case{number},patient{number}" for number in range(num_slides))]
    labels.write_text("\n".join(lines))
    options = SlideOptions(
        mpp=mpp, size=(side, side), annotations=str(annotations), labels=str(labels)
    )
    out = folder / "shards"
    write_shards(str(slides), out, "slides", options=SourceOptions(slides=options), workers=1)
    return out
