"""What a slide of a scanner is: its levels, its resolution, and the reading of its areas."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from raysearch.data.images.decoding import RejectedImageError
from raysearch.errors import DataError, first_line

Pixels = NDArray[np.uint8]

# No scanner writes a larger slide; a file that says so is damaged.
MAX_SIDE = 2_000_000
# The largest area that is read at once.
MAX_PIXELS = 64 * 2**20
# Resolutions outside are no slide's: a tag of 72 dots an inch reads as 352.8 micrometres.
MIN_MPP, MAX_MPP = 0.05, 20.0
# The resolutions of both axes of a slide may differ by this factor.
MAX_MPP_RATIO = 1.1
OPAQUE = 255


@dataclass(frozen=True)
class SlideLevel:
    """A level of a slide: its size in pixels, and the side of its pixel in pixels of level 0."""

    width: int
    height: int
    downsample: float


@dataclass(frozen=True)
class SlideProperties:
    """What a slide says about itself.

    Attributes:
        levels: The levels, the finest first.
        mpp: The side of a pixel of level 0 in micrometres; None if the file does not say it.
        scanner: The name of the scanner; empty if unknown.
        bounds: (left, top, width, height) of the scanned area in pixels of level 0.
        series: The identifier of a DICOM series, which has several files; empty for other formats.
    """

    levels: tuple[SlideLevel, ...]
    mpp: float | None
    scanner: str
    bounds: tuple[int, int, int, int]
    series: str = ""

    @property
    def width(self) -> int:
        """The width of level 0 in pixels."""
        return self.levels[0].width

    @property
    def height(self) -> int:
        """The height of level 0 in pixels."""
        return self.levels[0].height


class SlideReader(ABC):
    """An open slide.

    Attributes:
        properties: What the slide says about itself.
    """

    properties: SlideProperties

    @abstractmethod
    def read(self, level: int, left: int, top: int, width: int, height: int) -> Pixels:
        """Read an area of a level.

        Args:
            level: The number of the level.
            left: Its left side in pixels of that level.
            top: Its top side in pixels of that level.
            width: Its width in pixels of that level.
            height: Its height in pixels of that level.

        Returns:
            RGB, shape (height, width, 3); white where the slide has no pixels.

        Raises:
            RejectedImageError: If the slide is damaged there.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def check_slide_libraries() -> None:
    """Raise a DataError if a library that reads slides is not installed."""
    try:
        import openslide  # noqa: F401
        import tifffile  # noqa: F401
    except ImportError as error:
        name = str(getattr(error, "name", None) or "openslide").partition(".")[0]
        raise DataError(f"slides need the package {name}; install raysearch[slides]") from None


def clean_text(text: str) -> str:
    """Return a text of a file on one line, without characters that are not printable."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:100]


def mean_mpp(horizontal: object, vertical: object) -> float | None:
    """Return the mean of the resolutions of both axes; None if the file has none.

    Raises:
        RejectedImageError: If they differ by more than MAX_MPP_RATIO.
    """
    values = [value for value in map(_positive_number, (horizontal, vertical)) if value]
    if not values:
        return None
    if max(values) / min(values) > MAX_MPP_RATIO:
        raise RejectedImageError(
            f"its pixels are not square: {values[0]:.3g} x {values[1]:.3g} micrometres"
        )
    return sum(values) / len(values)


def _positive_number(value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if 0 < number < np.inf else None


def check_levels(levels: tuple[SlideLevel, ...]) -> None:
    """Raise a RejectedImageError if the sizes of the levels are impossible."""
    if not levels:
        raise RejectedImageError("no level with an image in it")
    for level in levels:
        if not (0 < level.width <= MAX_SIDE and 0 < level.height <= MAX_SIDE):
            raise RejectedImageError(
                f"a level of {level.width:,} x {level.height:,} pixels, at most {MAX_SIDE:,} a side"
                " are allowed"
            )


def check_area(width: int, height: int) -> None:
    """Raise a RejectedImageError if an area is too large to be read at once."""
    if width * height > MAX_PIXELS:
        raise RejectedImageError(
            f"an area of {width:,} x {height:,} pixels of a level has to be read at once, at most"
            f" {MAX_PIXELS:,} pixels are allowed; write the slide with more levels"
        )


def on_white(pixels: Pixels) -> Pixels:
    """Return RGBA pixels as RGB on white, shape (height, width, 3)."""
    alpha = pixels[..., 3]
    if alpha.min() == OPAQUE:
        return np.ascontiguousarray(pixels[..., :3])
    weights = alpha[..., None].astype(np.uint16)
    blended = pixels[..., :3] * weights + OPAQUE * (OPAQUE - weights)
    return ((blended + OPAQUE // 2) // OPAQUE).astype(np.uint8)


@contextmanager
def slide_errors(path: str) -> Iterator[None]:
    """Convert errors of a library to a RejectedImageError, if the file itself can be read.

    Raises:
        RejectedImageError: If the slide is damaged.
        DataError: If its file cannot be read any more, such as of a share that is gone.
    """
    import openslide

    try:
        yield
    except RejectedImageError:
        raise
    except openslide.OpenSlideUnsupportedFormatError:
        _check_file(path)
        raise RejectedImageError("no slide of a format that OpenSlide reads") from None
    except (openslide.OpenSlideError, OSError) as error:
        _check_file(path)
        raise RejectedImageError(f"damaged ({first_line(error)})") from None
    except MALFORMED as error:
        _check_file(path)
        raise RejectedImageError(f"damaged ({first_line(error)})") from None


# What libraries raise for a damaged file.
MALFORMED: tuple[type[Exception], ...] = (
    *(ValueError, KeyError, IndexError, TypeError, RuntimeError, OverflowError),
    *(AttributeError, ZeroDivisionError, MemoryError, AssertionError),
)


def _check_file(path: str) -> None:
    """Raise a DataError if a file cannot be read."""
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); check that its storage is"
            " connected, and run the command again"
        ) from None
