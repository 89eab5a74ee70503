"""The options of tiling slides, and their checks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from raysearch.data.class_names import clean_class_name
from raysearch.data.images.decoding import Size
from raysearch.data.slides.slide_reader import MAX_MPP, MIN_MPP
from raysearch.errors import DataError

# The options of slides, and the fields of `SlideOptions`.
SLIDE_OPTIONS = {
    "--mpp": "mpp",
    "--overlap": "overlap",
    "--min-tissue": "min_tissue",
    "--annotations": "annotations",
    "--labels": "labels",
    "--min-fraction": "min_fraction",
    "--background": "background",
    "--assume-mpp": "assumed_mpp",
}
DEFAULT_MPP, DEFAULT_SIZE, DEFAULT_MIN_TISSUE = 0.5, (224, 224), 0.5


@dataclass(frozen=True)
class SlideOptions:
    """How slides are cut into tiles, and how these get their labels.

    Attributes:
        mpp: The side of a pixel of the tiles, in micrometres.
        size: (width, height) of the tiles in their pixels.
        overlap: By how many pixels neighboring tiles overlap.
        min_tissue: The smallest fraction of tissue of a tile, 0 to 1.
        annotations: The folder with the annotations of the slides; None if there are none.
        labels: The CSV file with what is known about each slide; None if there is none.
        min_fraction: The smallest fraction of a tile in the regions of its class; see
            `TileLabeler`.
        center: The side of the square in the center of a tile that labels it, in its pixels; None
            for all of the tile.
        background: The class of the tiles in no region; None leaves them out.
        assumed_mpp: The side of a pixel of level 0, in micrometres, of slides that do not say it,
            or say an impossible one; None rejects them.
        named: The fields that the user has named.
    """

    mpp: float = DEFAULT_MPP
    size: Size = DEFAULT_SIZE
    overlap: int = 0
    min_tissue: float = DEFAULT_MIN_TISSUE
    annotations: str | None = None
    labels: str | None = None
    min_fraction: float | None = None
    center: int | None = None
    background: str | None = None
    assumed_mpp: float | None = None
    named: frozenset[str] = field(default=frozenset(), repr=False, compare=False)

    def check(self) -> None:
        """Raise a DataError, which names the option, if a value is not allowed."""
        for option, mpp in (("--mpp", self.mpp), ("--assume-mpp", self.assumed_mpp)):
            if mpp is not None and not MIN_MPP <= mpp <= MAX_MPP:
                raise DataError(
                    f"{option} {mpp:g}: give {MIN_MPP:g} to {MAX_MPP:g} micrometres a pixel"
                )
        if not 0 <= self.overlap < min(self.size):
            raise DataError(
                f"--overlap {self.overlap}: give 0 to {min(self.size) - 1} pixels, less than the"
                " side of a tile"
            )
        fractions = (("--min-tissue", self.min_tissue), ("--min-fraction", self.min_fraction))
        for option, fraction in fractions:
            if fraction is not None and not (0 <= fraction <= 1 and math.isfinite(fraction)):
                raise DataError(f"{option} {fraction:g}: give a fraction from 0 to 1")
        if self.center is not None and not 1 <= self.center <= min(self.size):
            raise DataError(
                f"--center {self.center}: not a side in tiles of {self.size[0]}x{self.size[1]}"
                f" pixels; give 1 to {min(self.size)}"
            )
        if self.annotations is None:
            for option, value in (
                ("--background", self.background),
                ("--min-fraction", self.min_fraction),
                ("--center", self.center),
            ):
                if value is not None:
                    raise DataError(f"{option}: has no effect without --annotations; remove it")
        if self.background is not None:
            try:
                is_blank = not clean_class_name(self.background)
            except ValueError as error:
                raise DataError(f"--background: {error}; give another name") from None
            if is_blank:
                raise DataError("--background: a blank name; give the name of a class")


def slide_options(values: Mapping[str, float | str | None]) -> SlideOptions:
    """Return the options with the values that the user names.

    Args:
        values: The values by the name of the field; None for one that the user does not name.
    """
    named = {name: value for name, value in values.items() if value is not None}
    return replace(SlideOptions(), named=frozenset(named), **named)  # type: ignore[arg-type]
