"""Prints the answer of a command as one JSON object, the only text on standard output."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import PurePath


def print_json(record: object) -> None:
    """Print a mapping or a dataclass as one line of JSON; numbers that are not finite are null.

    Raises:
        TypeError: If it is no object of JSON.
    """
    content = json_value(record)
    if not isinstance(content, dict):
        raise TypeError("the answer of a command is one JSON object")
    sys.stdout.write(json.dumps(content, allow_nan=False) + "\n")


def json_value(value: object) -> object:
    """Convert records, mappings, sequences and arrays to values of JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return json_value(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if hasattr(value, "tolist"):  # an array or a number of NumPy, which takes a moment to import
        return json_value(value.tolist())
    if isinstance(value, PurePath):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
