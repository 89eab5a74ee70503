"""What a value may be: its type, its range, its names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a hyperparameter's value may be: its type, and the range, the names.

    Beside the names a text may have one of the `endings` of a file, or begin with the `prefix`.
    """

    kind: type
    low: float = float("-inf")
    high: float = float("inf")
    names: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()
    prefix: str = ""

    def error(self, value: object) -> str | None:
        """Why `value` is not allowed, or None where it is."""
        if self.kind is str:
            return None if self._names(value) else f"{value!r} is unknown: one of {self._known()}"
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if self.kind is bool:
            return None if isinstance(value, bool) else f"{value!r} is neither true nor false"
        if not number or (self.kind is int and not isinstance(value, int)):
            return f"{value!r} is not {'a whole number' if self.kind is int else 'a number'}"
        if not self.low <= float(str(value)) <= self.high:
            return f"{value!r} is outside {self.low:g} to {self.high:g}"
        return None

    def _names(self, value: object) -> bool:
        opened = isinstance(value, str) and (
            (bool(self.endings) and value.endswith(self.endings))
            or (bool(self.prefix) and value.startswith(self.prefix))
        )
        return opened or value in self.names

    def _known(self) -> str:
        files = f", or a file ({', '.join(self.endings)})" if self.endings else ""
        return ", ".join(self.names) + (f", {self.prefix}NAME" if self.prefix else "") + files
