"""Opens slides.

OpenSlide reads the files of scanners. OME-TIFF, of which OpenSlide opens the first level only, is
read by tifffile.
"""

from __future__ import annotations

from pathlib import Path

from raysearch.data.slides.companion_files import check_companion_files
from raysearch.data.slides.ome_tiff import OmeTiffReader, is_ome_tiff
from raysearch.data.slides.openslide_reader import OpenSlideReader
from raysearch.data.slides.slide_reader import SlideReader


def open_slide(path: str | Path) -> SlideReader:
    """Open a slide.

    Args:
        path: The local file; of DICOM, one of the files of its series.

    Raises:
        RejectedImageError: If it is no slide, damaged, or has impossible sizes.
        DataError: If the file cannot be read at all.
    """
    check_companion_files(Path(path))
    name = str(path)
    if is_ome_tiff(name):
        return OmeTiffReader(name)
    return OpenSlideReader(name)
