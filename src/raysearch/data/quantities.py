"""Counts with their nouns, for messages."""

from __future__ import annotations


def quantity(count: int, noun: str) -> str:
    """Return a count with its noun, such as `1 patch` or `2 patches`."""
    plural = f"{noun}es" if noun.endswith("ch") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"
