"""Early stopping as pure functions over stored results: ASHA along fold-epochs.

Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, in the
stopping form that Ray Tune's `AsyncHyperBandScheduler` has.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def rung_levels(epochs: int, folds: int, grace: int, reduction: int) -> tuple[int, ...]:
    """The fold-epochs after which a trial is compared: inside the first fold, and at fold ends.

    The end of the last fold is no rung: the trial is finished there.
    """
    levels = []
    level = grace
    while level < epochs:
        levels.append(level)
        level *= reduction
    return tuple(levels + [epochs * fold for fold in range(1, folds)])


def keeps_on(earlier: Sequence[float], value: float, reduction: int, mode: str) -> bool:
    """Whether a trial with `value` at a rung goes on, given those that were there before it.

    It does when it is not worse than the best 1/`reduction` of `earlier` (the percentile by
    linear interpolation), and always as the first.
    """
    if not earlier:
        return True
    sign = 1.0 if mode == "max" else -1.0
    signed = np.array([sign * one for one in earlier])
    cutoff = float(np.percentile(signed, (1 - 1 / reduction) * 100))
    return sign * value >= cutoff
