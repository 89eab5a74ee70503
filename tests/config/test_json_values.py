"""JSON is parsed strictly, or with the numbers that other programs write."""

from __future__ import annotations

import math

import pytest

from raysearch.config.json_values import parse_json


def test_a_byte_order_mark_is_ignored() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": [1, 2.5]}') == {"a": [1, 2.5]}


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_rejected_unless_they_are_allowed(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a number of JSON|is too large"):
        parse_json(f"[{text}]")
    values = parse_json(f"[{text}]", allow_nan=True)
    assert isinstance(values, list)
    assert not math.isfinite(values[0])


@pytest.mark.parametrize("allow_nan", [False, True])
@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"[" * 200_000, "nested too deep"), (b"9" * 500, "500 digits"), (b"\xff", "decode")],
)
def test_hostile_content_is_a_value_error(content: bytes, reason: str, allow_nan: bool) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(content, allow_nan=allow_nan)
