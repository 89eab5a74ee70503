"""One thing that a reader of an audit has to know."""

from __future__ import annotations

from dataclasses import dataclass

DISHONEST, WARNING, NOTE = "dishonest", "warning", "note"
SEVERITIES = (DISHONEST, WARNING, NOTE)


@dataclass(frozen=True)
class Finding:
    """What was found `count` times, what it does to a result, and what to do about it.

    `key` names it for programs; `groups` are the rows that show it, those of one case together.
    """

    key: str
    severity: str
    title: str
    why: str
    advice: str
    count: int = 1
    groups: tuple[tuple[int, ...], ...] = ()
    details: tuple[str, ...] = ()


def counted(count: int, name: str) -> str:
    """`1 patch`, `2 patches`."""
    plural = f"{name}es" if name.endswith("ch") else f"{name}s"
    return f"{count:,} {name if count == 1 else plural}"
