"""What a value may be: its type, its range, its names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a knob's value may be: its type, and the range, the names or a file's endings."""

    kind: type
    low: float = float("-inf")
    high: float = float("inf")
    names: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()

    def fault(self, value: object) -> str | None:
        """Why `value` is not allowed, or None where it is."""
        if self.kind is str:
            if value in self.names or (self.endings and str(value).endswith(self.endings)):
                return None
            files = f", or a file ({', '.join(self.endings)})" if self.endings else ""
            return f"{value!r} is unknown: one of {', '.join(self.names)}{files}"
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if self.kind is bool:
            return None if isinstance(value, bool) else f"{value!r} is neither true nor false"
        if not number or (self.kind is int and not isinstance(value, int)):
            return f"{value!r} is not {'a whole number' if self.kind is int else 'a number'}"
        if not self.low <= float(str(value)) <= self.high:
            return f"{value!r} is outside {self.low:g} to {self.high:g}"
        return None
