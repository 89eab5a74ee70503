"""The time that a study still needs, as it is estimated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RemainingSeconds:
    """The seconds that a study still needs.

    Attributes:
        search: Of the search.
        after_search: Of selection, refit, repeats and registration.
        limits: The low and the high value of both in simulations; None if the rest of the search is
            not simulated, or over.
    """

    search: float
    after_search: float
    limits: tuple[float, float] | None = None

    @property
    def total(self) -> float:
        """Of both."""
        return self.search + self.after_search

    def after(self, seconds: float) -> RemainingSeconds:
        """What remains when `seconds` more have passed."""
        search_s = max(0.0, self.search - seconds)
        after_search_s = max(0.0, self.after_search - max(0.0, seconds - self.search))
        if self.limits is None:
            return RemainingSeconds(search_s, after_search_s)
        low, high = (max(0.0, limit - seconds) for limit in self.limits)
        return RemainingSeconds(search_s, after_search_s, (low, high))
