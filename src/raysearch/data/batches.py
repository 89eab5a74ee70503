"""The order of the rows in an epoch, as a pure function of what it is for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def epoch_order(rows: NDArray[np.int64], seed: int, fold: int, epoch: int) -> NDArray[np.int64]:
    """`rows` (N,) shuffled by (seed, fold, epoch), whatever was drawn before."""
    return np.random.default_rng([seed, fold, epoch]).permutation(rows)
