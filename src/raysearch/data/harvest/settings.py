"""What a harvest keeps and how far it goes, as values that a child process reads too."""

from __future__ import annotations

from dataclasses import dataclass

Span = tuple[float, float]


@dataclass(frozen=True)
class Purple:
    """Which pixels are the purple of H&E, and how many of them make an image worth keeping.

    `hue_deg` is in degrees, `saturation` and `value` from 0 to 1. Nearly all stained pixels of the
    PCam and IDC patches lie between 258 and 347 degrees. Glass is hardly saturated, while false
    colours (fluorescence, colour maps) are more saturated than 0.9. `min_fraction` holds for images
    and for tiles; at 0.2, 95 % of those patches are kept, and what goes is mostly glass and fat.
    """

    hue_deg: Span = (250.0, 350.0)
    saturation: Span = (0.07, 0.9)
    value: Span = (0.2, 1.0)
    min_fraction: float = 0.2
    min_pixels: int = 2_500
    min_purple_pixels: int = 500


@dataclass(frozen=True)
class Limits:
    """How much one PDF may cost; what goes beyond is rejected by name.

    `file_mb` is the size of a PDF, `image_pixels` of one decoded image; `timeout_s` counts the
    reading of one PDF and `memory_mb` its address space.
    """

    file_mb: int = 200
    pages: int = 500
    images: int = 2_000
    image_pixels: int = 50_000_000
    timeout_s: int = 120
    memory_mb: int = 2_048


@dataclass(frozen=True)
class Settings:
    """All of it; `size` is the side of a tile in pixels."""

    size: int = 96
    purple: Purple = Purple()
    limits: Limits = Limits()
