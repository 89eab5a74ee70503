"""The settings of a harvest: which images are selected, and which resources a PDF may use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from raysearch.config.yaml_loader import load_document
from raysearch.data.harvest.pdf_messages import ReaderLimits
from raysearch.errors import DataError, SpaceError

MAX_FILE_BYTES = 64 * 1024
MIN_TILE_SIZE, MAX_TILE_SIZE = 8, 4_096
Span = tuple[float, float]


def _check_order(span: Span) -> Span:
    if span[0] > span[1]:
        raise PydanticCustomError("span_order", "[low, high] must have low <= high")
    return span


Fraction = Annotated[float, Field(ge=0, le=1)]
# A list in the YAML file becomes a tuple, so these fields are not strict.
Degrees = Annotated[float, Field(ge=0, le=360)]
DegreeSpan = Annotated[tuple[Degrees, Degrees], Field(strict=False), AfterValidator(_check_order)]
FractionSpan = Annotated[
    tuple[Fraction, Fraction], Field(strict=False), AfterValidator(_check_order)
]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Purple(_Section):
    """The colors of stained tissue (H&E), and the amount of them in a selected image.

    Nearly all stained pixels of the PCam and IDC patches have a hue of 258 to 347 degrees. Glass
    has a low saturation. False colors, such as fluorescence and color maps, have saturations above
    0.9. With a minimum fraction of 0.2, 95 % of those patches are selected; the others show mostly
    glass and fat.

    Attributes:
        hue_deg: Hue in degrees.
        saturation: Saturation from 0 to 1.
        value: Value of the HSV color space from 0 to 1.
        min_fraction: Smallest fraction of purple pixels in an image and in a tile.
        min_pixels: Smallest number of pixels of an image.
        min_purple_pixels: Smallest number of purple pixels of an image.
    """

    hue_deg: DegreeSpan = (250.0, 350.0)
    saturation: FractionSpan = (0.07, 0.9)
    value: FractionSpan = (0.2, 1.0)
    min_fraction: Fraction = 0.2
    min_pixels: Annotated[int, Field(ge=1, le=10**9)] = 2_500
    min_purple_pixels: Annotated[int, Field(ge=0, le=10**9)] = 500


class Limits(_Section):
    """The resources that one PDF may use; a PDF above a limit is rejected by name.

    Attributes are those of `ReaderLimits`.
    """

    file_mb: Annotated[int, Field(ge=1, le=4_096)] = 200
    pages: Annotated[int, Field(ge=1, le=100_000)] = 500
    images: Annotated[int, Field(ge=1, le=1_000_000)] = 2_000
    image_pixels: Annotated[int, Field(ge=1, le=500_000_000)] = 50_000_000
    timeout_s: Annotated[int, Field(ge=1, le=86_400)] = 120
    memory_mb: Annotated[int, Field(ge=256, le=1_048_576)] = 2_048

    def reader_limits(self) -> ReaderLimits:
        """Return the limits as the reader process gets them."""
        return ReaderLimits(**self.model_dump())


class SettingsFile(_Section):
    """The keys of a settings file."""

    purple: Purple = Purple()
    limits: Limits = Limits()


class HarvestSettings(SettingsFile):
    """All settings of a harvest; `size` is the side of a tile in pixels."""

    size: int = 96


def read_settings(path: Path | None, size: int) -> HarvestSettings:
    """Read the settings from a YAML file.

    Args:
        path: The file; None for the defaults.
        size: Side of a tile in pixels.

    Raises:
        DataError: If the size or the file is invalid; the message has one line for each error.
    """
    if not MIN_TILE_SIZE <= size <= MAX_TILE_SIZE:
        raise DataError(
            f"--size {size}: not a valid tile size; give {MIN_TILE_SIZE} to {MAX_TILE_SIZE} pixels"
        )
    if path is None:
        return HarvestSettings(size=size)
    try:
        settings = SettingsFile.model_validate(_parse_yaml(path))
    except ValidationError as error:
        messages = [_describe(details) for details in error.errors(include_url=False)]
        count = "1 error" if len(messages) == 1 else f"{len(messages)} errors"
        raise DataError("\n  ".join([f"{path}: {count}:", *messages])) from None
    return HarvestSettings(size=size, purple=settings.purple, limits=settings.limits)


def _parse_yaml(path: Path) -> object:
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a YAML file with `purple` or `limits`")
    try:
        tree = load_document(path).tree
    except SpaceError as error:
        raise DataError(str(error)) from None
    if not isinstance(tree, dict):
        raise DataError(f"{path}: not a mapping; allowed keys: `purple`, `limits`")
    return tree


def _describe(details: ErrorDetails) -> str:
    """Return one line for an error: the key, its value and what is allowed."""
    key = ".".join(map(str, details["loc"]))
    if details["type"] != "extra_forbidden":
        return f"{key}: {details['input']!r}: {details['msg']}"
    models: dict[object, type[BaseModel]] = {"purple": Purple, "limits": Limits}
    is_section_key = len(details["loc"]) > 1
    model = models.get(details["loc"][0], SettingsFile) if is_section_key else SettingsFile
    return f"{key}: unknown key; allowed keys: {', '.join(model.model_fields)}"
