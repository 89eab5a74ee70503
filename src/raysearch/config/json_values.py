"""Parses JSON that may be hostile: whatever is wrong with it is a ValueError."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping

MAX_NUMBER_CHARACTERS = 400
CHECKSUM = "checksum"


def parse_json(content: str | bytes, *, allow_nan: bool = False) -> object:
    """Parse JSON, with or without a byte order mark.

    Args:
        content: The JSON; bytes are UTF-8.
        allow_nan: Whether numbers may be `NaN` or `Infinity`, which some programs write.

    Returns:
        Mappings, lists, texts, numbers, booleans and None. Every number is finite, unless
        `allow_nan`: too large ones are then infinite.

    Raises:
        ValueError: If it is not JSON or not UTF-8, is nested too deep, or has a number that is too
            long, not finite, or NaN.
    """
    try:
        return json.loads(
            content.decode("utf-8-sig") if isinstance(content, bytes) else content,
            parse_constant=None if allow_nan else _reject_constant,
            parse_float=None if allow_nan else _parse_float,
            parse_int=_parse_int,
        )
    except RecursionError:
        raise ValueError("nested too deep") from None


def dump_checked(content: object) -> bytes:
    """Convert a mapping with text keys to JSON with a checksum of its content.

    Raises:
        TypeError: If it is no mapping.
    """
    if not isinstance(content, Mapping):
        raise TypeError("no mapping")
    return json.dumps({**content, CHECKSUM: _checksum(content)}, indent=1).encode()


def parse_checked(content: bytes) -> object:
    """Parse what `dump_checked` returns.

    Returns:
        The mapping, without the checksum.

    Raises:
        ValueError: If it is no such JSON, or the checksum is not that of the content.
    """
    values = parse_json(content)
    if not isinstance(values, dict):
        raise ValueError("no mapping")
    checksum = values.pop(CHECKSUM, None)
    if checksum != _checksum(values):
        raise ValueError("its checksum is not that of its content")
    return values


def _checksum(content: object) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _reject_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def _parse_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large")
    return number


def _parse_int(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise ValueError(f"a number of {len(text):,} digits")
    return int(text)
