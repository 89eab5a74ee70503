"""An estimate with its confidence interval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; undefined values are None."""

    low: float | None
    value: float | None
    high: float | None

    def __str__(self) -> str:
        low, value, high = (
            "undefined" if bound is None else f"{bound:.4f}"
            for bound in (self.low, self.value, self.high)
        )
        return f"{value} ({low} to {high})"


UNDEFINED = Interval(None, None, None)
