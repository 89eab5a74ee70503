"""Reads OME-TIFF slides, whose levels are SubIFDs or pages, by tifffile."""

from __future__ import annotations

from collections import OrderedDict
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from pydantic import JsonValue

from raysearch.data.images.decoding import RejectedImageError
from raysearch.data.slides.slide_reader import (
    Pixels,
    SlideLevel,
    SlideProperties,
    SlideReader,
    check_area,
    check_levels,
    clean_text,
    mean_mpp,
    slide_errors,
)
from raysearch.errors import shortened

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

WHITE, CHANNELS, BITS = 255, 3, 8
# The decoded segments of a slide that are kept for the next areas, and the largest segment.
CACHE_BYTES = 128 * 2**20
MAX_SEGMENT_BYTES = 256 * 2**20
# TIFF's numbers of RGB and YCbCr.
PHOTOMETRICS = frozenset((2, 6))
# TIFF's numbers of the compressions that are read: JPEG and JPEG 2000, whose images have sizes of
# their own; and none, LZW, deflate and Zstandard.
IMAGE_COMPRESSIONS = frozenset((7, 33003, 33005, 34712))
COMPRESSIONS = IMAGE_COMPRESSIONS | {1, 5, 8, 32946, 50000}
# Micrometres of the units of OME-XML.
MICROMETRES = {"nm": 1e-3, "\N{MICRO SIGN}m": 1.0, "\N{GREEK SMALL LETTER MU}m": 1.0, "mm": 1e3}


def is_ome_tiff(path: str) -> bool:
    """Whether a file is a TIFF file whose description is OME-XML."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            return bool(file.is_ome)
    except Exception:  # OpenSlide says what is wrong with it
        return False


class OmeTiffReader(SlideReader):
    """An OME-TIFF slide."""

    def __init__(self, path: str) -> None:
        import tifffile

        self._path = path
        with slide_errors(path):
            self._file = tifffile.TiffFile(path)
        try:
            with slide_errors(path):
                self._pages = _level_pages(self._file)
                self.properties = _ome_properties(self._file, self._pages)
            check_levels(self.properties.levels)
        except BaseException:
            self.close()
            raise
        self._segments: OrderedDict[tuple[int, int], Pixels] = OrderedDict()
        self._num_bytes = 0

    def read(self, level: int, left: int, top: int, width: int, height: int) -> Pixels:
        """Read an area; see `SlideReader`."""
        check_area(width, height)
        page = self._pages[level]
        pixels = np.full((height, width, CHANNELS), WHITE, np.uint8)
        segment_height, segment_width = page.chunks[:2]
        num_rows, num_columns = page.chunked[:2]
        rows = _segments(top, height, segment_height, num_rows)
        columns = _segments(left, width, segment_width, num_columns)
        for row in rows:
            for column in columns:
                segment = self._segment(level, row * num_columns + column)
                # Both areas in pixels of the level; the last segments may be wider than the level.
                y, x = row * segment_height, column * segment_width
                bottom = min(y + segment.shape[0], page.imagelength, top + height)
                right = min(x + segment.shape[1], page.imagewidth, left + width)
                y0, x0 = max(y, top), max(x, left)
                pixels[y0 - top : bottom - top, x0 - left : right - left] = segment[
                    y0 - y : bottom - y, x0 - x : right - x
                ]
        return pixels

    def _segment(self, level: int, index: int) -> Pixels:
        """Return a decoded tile or strip."""
        key = (level, index)
        if key in self._segments:
            self._segments.move_to_end(key)
            return self._segments[key]
        with slide_errors(self._path):
            segment = _decode(self._pages[level], index)
        self._segments[key] = segment
        self._num_bytes += segment.nbytes
        while self._num_bytes > CACHE_BYTES and len(self._segments) > 1:
            _key, oldest = self._segments.popitem(last=False)
            self._num_bytes -= oldest.nbytes
        return segment

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _segments(start: int, length: int, segment_length: int, count: int) -> range:
    """Return the numbers of the segments with a part between `start` and `start + length`."""
    first = max(0, start // segment_length)
    return range(first, min(count, -(-(start + length) // segment_length)))


def _decode(page: TiffPage, index: int) -> Pixels:
    offset, num_bytes = page.dataoffsets[index], page.databytecounts[index]
    height, width = page.chunks[:2]
    if not num_bytes:  # a tile that the program has not written, since it is empty
        return np.full((height, width, CHANNELS), WHITE, np.uint8)
    if num_bytes > MAX_SEGMENT_BYTES:
        raise RejectedImageError(f"a tile or strip of {num_bytes:,} bytes; write it in tiles")
    file = page.parent.filehandle
    file.seek(offset)
    content = file.read(num_bytes)
    if len(content) < num_bytes:
        raise RejectedImageError("truncated")
    _check_announced_size(page, content)
    decoded, _position, shape = page.decode(
        content, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader
    )
    if decoded is None or decoded.dtype != np.uint8 or decoded.shape[-1] != CHANNELS:
        raise RejectedImageError("a tile or strip that is not RGB")
    segment: Pixels = decoded.reshape(-1, *decoded.shape[-2:])[: shape[1], : shape[2]]
    return segment


def _check_announced_size(page: TiffPage, content: bytes) -> None:
    """Check that a compressed image is not larger than its tile or strip, before it is decoded.

    Other compressions are decoded into a buffer of the size of the tile.
    """
    if page.compression not in IMAGE_COMPRESSIONS:
        return
    with Image.open(BytesIO(content)) as image:
        width, height = image.size
    if height > page.chunks[0] or width > page.chunks[1]:
        raise RejectedImageError(
            f"a tile of {page.chunks[1]} x {page.chunks[0]} pixels has an image of {width:,} x"
            f" {height:,}"
        )


def _level_pages(file: TiffFile) -> tuple[TiffPage, ...]:
    """Return the page of each level of the largest image of a file.

    Raises:
        RejectedImageError: If it is not RGB of 8 bits, is compressed in another way, has several
            planes, or names another file, which tifffile would open.
    """
    _check_images(file)
    series = max(file.series, key=lambda entry: entry.size)
    frames = [level.pages[0] for level in series.levels]
    pages: list[TiffPage] = [frame.aspage() for frame in frames if frame is not None]
    for page in pages:
        if (page.samplesperpixel, page.bitspersample, page.planarconfig) != (CHANNELS, BITS, 1):
            raise RejectedImageError(
                f"{page.samplesperpixel} channels of {page.bitspersample} bits, not RGB of"
                f" {BITS} bits with the channels side by side"
            )
        if page.photometric not in PHOTOMETRICS:
            raise RejectedImageError(f"colors of TIFF's kind {int(page.photometric)}, not RGB")
        if page.compression not in COMPRESSIONS:
            raise RejectedImageError(
                f"compression {int(page.compression)}; write it with JPEG, JPEG 2000, deflate, LZW"
                " or Zstandard, or uncompressed"
            )
        if np.prod(page.chunks) > MAX_SEGMENT_BYTES:
            raise RejectedImageError("its tiles or strips are too large; write it in tiles")
    return tuple(pages)


def _ome_properties(file: TiffFile, pages: tuple[TiffPage, ...]) -> SlideProperties:
    full = pages[0]
    levels = tuple(
        SlideLevel(page.imagewidth, page.imagelength, full.imagewidth / page.imagewidth)
        for page in pages
    )
    image, scanner = _metadata(file.ome_metadata or "", full.imagewidth, full.imagelength)
    mpp = mean_mpp(*(_micrometres(image, axis) for axis in "XY"))
    return SlideProperties(levels, mpp, scanner, (0, 0, full.imagewidth, full.imagelength))


def _metadata(text: str, width: int, height: int) -> tuple[dict[str, str], str]:
    """Return the attributes of the pixels of the image with that size, and the scanner."""
    import tifffile

    root = tifffile.xml2dict(text).get("OME", {})
    scanner = ""
    for instrument in _elements(root, "Instrument"):
        for microscope in _elements(instrument, "Microscope"):
            words = [str(microscope.get(name, "")) for name in ("Manufacturer", "Model")]
            scanner = scanner or clean_text(" ".join(words))
    size = [str(width), str(height)]
    for image in _elements(root, "Image"):
        for pixels in _elements(image, "Pixels"):
            if [str(pixels.get("SizeX")), str(pixels.get("SizeY"))] == size:
                return {name: str(value) for name, value in pixels.items()}, scanner
    return {}, scanner


def _check_images(file: TiffFile) -> None:
    """Check the images of a file by its OME-XML."""
    import tifffile

    root = tifffile.xml2dict(file.ome_metadata or "").get("OME", {})
    for image in _elements(root, "Image"):
        for pixels in _elements(image, "Pixels"):
            planes = [str(pixels.get(f"Size{axis}", 1)) for axis in "ZT"]
            if planes != ["1", "1"]:
                raise RejectedImageError(
                    f"{planes[0]} focal planes and {planes[1]} times; write one of them"
                )
            for data in _elements(pixels, "TiffData"):
                for identifier in _elements(data, "UUID"):
                    name = identifier.get("FileName")
                    if name is not None and str(name) != file.filename:
                        raise RejectedImageError(
                            f"its pixels are in another file, {shortened(str(name))!r}; write one"
                            " file"
                        )


def _elements(parent: JsonValue, name: str) -> list[dict[str, JsonValue]]:
    """Return the elements of that name of a dictionary that `xml2dict` has made."""
    value = parent.get(name, []) if isinstance(parent, dict) else []
    elements = value if isinstance(value, list | tuple) else [value]
    return [element for element in elements if isinstance(element, dict)]


def _micrometres(pixels: dict[str, str], axis: str) -> float | None:
    """Return the side of a pixel; None if the file does not say it in a unit of length."""
    size = pixels.get(f"PhysicalSize{axis}")
    factor = MICROMETRES.get(pixels.get(f"PhysicalSize{axis}Unit", "\N{MICRO SIGN}m"))
    try:
        return None if size is None or factor is None else float(size) * factor
    except ValueError:
        return None
