"""The order of the rows in an epoch, as a pure function of what it is for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def epoch_order(rows: NDArray[np.int64], seed: int, fold: int, epoch: int) -> NDArray[np.int64]:
    """`rows` (N,) shuffled by (seed, fold, epoch), whatever was drawn before."""
    return np.random.default_rng([seed, fold, epoch]).permutation(rows)


def balanced_order(
    rows: NDArray[np.int64], labels: NDArray[np.int64], seed: int, fold: int, epoch: int
) -> NDArray[np.int64]:
    """As many of `rows` (N,), in an order, the classes of their `labels` (N,) equally often.

    To within one row. Those of a small class come several times, each as often as any other of it,
    to within one; of a large one, some do not come.
    """
    generator = np.random.default_rng([seed, fold, epoch])
    classes = np.unique(labels)
    turn = generator.permutation(len(classes))
    taken = []
    for place, label in enumerate(classes[turn]):
        count = len(rows) // len(classes) + (place < len(rows) % len(classes))
        own = generator.permutation(rows[labels == label])
        taken.append(np.resize(own, count))
    return generator.permutation(np.concatenate(taken))
