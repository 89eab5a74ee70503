"""The names of slides, by their files."""

from __future__ import annotations

from pathlib import PurePosixPath

OME = ".ome"


def slide_name(file: str) -> str:
    """Return the path of a slide without its suffix, which is `.ome.tif` for OME-TIFF."""
    path = PurePosixPath(file)
    path = path.with_suffix("")
    return str(path.with_suffix("") if path.suffix.lower() == OME else path)
