"""Reads the files of scanners by OpenSlide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from raysearch.data.slides.slide_reader import (
    Pixels,
    SlideLevel,
    SlideProperties,
    SlideReader,
    check_area,
    check_levels,
    clean_text,
    mean_mpp,
    on_white,
    slide_errors,
)

# The bytes of decoded parts of a slide that OpenSlide keeps for the next areas.
CACHE_BYTES = 128 * 2**20
# The properties in which formats have the name of the scanner, the first one first.
SCANNER_PROPERTIES = (
    ("aperio.ScanScope ID",),
    ("hamamatsu.Product", "hamamatsu.NDP.S/N"),
    ("leica.device-model", "leica.device-version"),
    ("mirax.GENERAL.SLIDE_SCANNER", "mirax.NONHIERLAYER_0_SECTION.SCANNER_HARDWARE_ID"),
    ("dicom.Manufacturer", "dicom.ManufacturerModelName"),
    ("philips.DICOM_MANUFACTURER", "philips.DICOM_DEVICE_SERIAL_NUMBER"),
    ("ventana.ScannerModel",),
)


class OpenSlideReader(SlideReader):
    """A slide that OpenSlide reads."""

    def __init__(self, path: str) -> None:
        import openslide

        with slide_errors(path):
            self._slide = openslide.OpenSlide(path)
        self._path = path
        try:
            with slide_errors(path):
                self.properties = _openslide_properties(self._slide)
                self._slide.set_cache(openslide.OpenSlideCache(CACHE_BYTES))
            check_levels(self.properties.levels)
        except BaseException:
            self.close()
            raise

    def read(self, level: int, left: int, top: int, width: int, height: int) -> Pixels:
        """Read an area; see `SlideReader`."""
        check_area(width, height)
        downsample = self.properties.levels[level].downsample
        location = (round(left * downsample), round(top * downsample))
        with slide_errors(self._path):
            image = self._slide.read_region(location, level, (width, height))
        return on_white(np.asarray(image))

    def close(self) -> None:
        """Close the file."""
        self._slide.close()


def _openslide_properties(slide: _OpenSlide) -> SlideProperties:
    values = slide.properties
    levels = tuple(
        SlideLevel(width, height, float(downsample))
        for (width, height), downsample in zip(
            slide.level_dimensions, slide.level_downsamples, strict=True
        )
    )
    bounds = [_integer(values.get(f"openslide.bounds-{name}")) for name in ("x", "y")]
    size = [_integer(values.get(f"openslide.bounds-{name}")) for name in ("width", "height")]
    left, top = (0 if value is None else value for value in bounds)
    limits = (levels[0].width - left, levels[0].height - top)
    width, height = (
        limit if value is None else min(value, limit)
        for value, limit in zip(size, limits, strict=True)
    )
    return SlideProperties(
        levels,
        mean_mpp(values.get("openslide.mpp-x"), values.get("openslide.mpp-y")),
        scanner_name(values),
        (left, top, width, height),
        values.get("dicom.SeriesInstanceUID", ""),
    )


class _OpenSlide(Protocol):
    @property
    def properties(self) -> Mapping[str, str]: ...

    @property
    def level_dimensions(self) -> tuple[tuple[int, int], ...]: ...

    @property
    def level_downsamples(self) -> tuple[float, ...]: ...


def scanner_name(properties: Mapping[str, str]) -> str:
    """Return the name of the scanner from OpenSlide's properties of a slide; empty if unknown."""
    for names in SCANNER_PROPERTIES:
        words = [properties[name].strip() for name in names if properties.get(name, "").strip()]
        if words:
            return clean_text(" ".join(words))
    return ""


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
