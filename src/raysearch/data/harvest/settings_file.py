"""A small YAML file in front of the settings, whose errors are told all at once."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from raysearch.data.harvest.settings import Limits, Purple, Settings
from raysearch.errors import DataError

MAX_BYTES = 64 * 1024
SECTIONS = {"purple": Purple, "limits": Limits}
# Setting -> the least and the greatest value.
RANGES: dict[str, tuple[float, float]] = {
    "hue_deg": (0, 360),
    "saturation": (0, 1),
    "value": (0, 1),
    "min_fraction": (0, 1),
    "min_pixels": (1, 10**9),
    "min_purple_pixels": (0, 10**9),
    "file_mb": (1, 4_096),
    "pages": (1, 100_000),
    "images": (1, 1_000_000),
    "image_pixels": (1, 500_000_000),
    "timeout_s": (1, 86_400),
    "memory_mb": (256, 1_048_576),
}


def read_settings(path: Path | None, size: int) -> Settings:
    """The settings in the YAML file `path`, defaults where it says nothing.

    DataError with every error of the file in one line, or for a `size` that is no side of a tile.
    """
    if not 8 <= size <= 4_096:
        raise DataError(f"--size {size}: not a side of a tile; give 8 to 4096 pixels")
    if path is None:
        return Settings(size)
    tree = _tree(path)
    errors = [
        f"{name}: no such section; the sections are {', '.join(SECTIONS)}"
        for name in tree
        if name not in SECTIONS
    ]
    purple = Purple(**_section(tree.get("purple", {}), "purple", Purple(), errors))
    limits = Limits(**_section(tree.get("limits", {}), "limits", Limits(), errors))
    if errors:
        count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        raise DataError(f"{path}: {count}: {'; '.join(errors)}")
    return Settings(size, purple, limits)


def _tree(path: Path) -> dict[object, object]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a YAML file with `purple` or `limits`")
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path}: larger than {MAX_BYTES // 1024} kB; settings are shorter")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    # A tag such as !!timestamp reads its text by code that raises whatever it likes.
    except Exception as error:
        raise DataError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise DataError(f"{path}: holds no settings; write `purple: ...` or `limits: ...`")
    return tree


# Any: what a section becomes is checked here, and typed where it is used.
def _section(
    section: object, name: str, defaults: Purple | Limits, errors: list[str]
) -> dict[str, Any]:
    known = [one.name for one in fields(defaults)]
    if not isinstance(section, dict):
        errors.append(f"{name}: {section!r} is not a section; it holds {', '.join(known)}")
        return {}
    found: dict[str, Any] = {}
    for key, value in section.items():
        if key not in known:
            errors.append(f"{name}.{key}: no such setting; {name} holds {', '.join(known)}")
            continue
        wanted = _wanted(key, value, getattr(defaults, key))
        if wanted is None:
            found[key] = tuple(value) if isinstance(value, list) else value
        else:
            errors.append(f"{name}.{key}: {value!r} is not {wanted}")
    return found


def _wanted(key: str, value: object, default: object) -> str | None:
    """What a setting should have been; None where `value` is that."""
    low, high = RANGES[key]
    if isinstance(default, tuple):
        if (
            isinstance(value, list)
            and len(value) == 2
            and all(_is_number(end) for end in value)
            and low <= value[0] <= value[1] <= high
        ):
            return None
        return f"[low, high] within {low:g} to {high:g}"
    whole = isinstance(default, int)
    good = isinstance(value, int) if whole else True
    if good and _is_number(value) and low <= value <= high:  # type: ignore[operator]
        return None
    return f"a {'whole ' if whole else ''}number from {low:g} to {high:g}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
