"""What a row of a study is: a patch, or a slide."""

from __future__ import annotations

PATCHES, SLIDES = "patches", "slides"
_SINGULAR = {PATCHES: "patch", SLIDES: "slide"}


def singular(unit: str) -> str:
    """Return `unit`, `PATCHES` or `SLIDES`, in the singular."""
    return _SINGULAR[unit]
