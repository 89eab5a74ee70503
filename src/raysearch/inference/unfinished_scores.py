"""The scores of a test set that is not completely scored, in the cache of this machine."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from raysearch.data.array_cache import ArrayCache

WRITE_INTERVAL_S = 10.0
PROBABILITIES = "probabilities"


class UnfinishedScores:
    """Keeps the probabilities of the patches that are scored, so that an evaluation can continue.

    Args:
        *identity: What determines the probabilities: the hashes of the model and of the patches.
    """

    def __init__(self, *identity: str) -> None:
        self.cache = ArrayCache("scores", *identity)
        self._written_s = time.monotonic()

    def read(self, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
        """Return the probabilities so far of a set with that shape (N, C); None if there are none.

        A damaged file counts as none.
        """
        values = (self.cache.read(PROBABILITIES) or {}).get(PROBABILITIES)
        if values is None or values.dtype != np.float64 or values.ndim != 2:
            return None
        is_part = len(values) <= shape[0] and values.shape[1] == shape[1]
        return np.asarray(values, np.float64) if is_part else None

    def write_if_due(self, probabilities: NDArray[np.float64]) -> None:
        """Keep the probabilities so far, unless that was done a moment ago."""
        if time.monotonic() - self._written_s >= WRITE_INTERVAL_S:
            self.cache.write(PROBABILITIES, {PROBABILITIES: probabilities})
            self._written_s = time.monotonic()

    def remove(self) -> None:
        """Remove the scores, because the result is stored."""
        self.cache.remove()
