"""Early stopping as pure functions over stored results: rungs along fold-epochs, and paired tests.

Sources: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, for both
forms of ASHA: the stopping one as in Ray Tune's `AsyncHyperBandScheduler`, and the promoting one.
The paired test is that of Optuna's `WilcoxonPruner`.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from typing import Literal

from scipy.stats import wilcoxon

Mode = Literal["max", "min"]
# Fewer folds than this tell nothing in a paired test.
FEWEST_PAIRS = 2


def rung_levels(epochs: int, folds: int, grace: int, reduction: int) -> tuple[int, ...]:
    """The fold-epochs after which a trial is compared: inside the first fold, and at fold ends.

    The end of the last fold is no rung: the trial is finished there.
    """
    levels = []
    level = grace
    while level < epochs:
        levels.append(level)
        level *= reduction
    return tuple(levels + fold_ends(epochs, folds))


def even_levels(epochs: int, folds: int, grace: int, step: int) -> tuple[int, ...]:
    """Rungs every `step` epochs of the first fold, from `grace` on, and at fold ends."""
    return (*range(grace, epochs, step), *fold_ends(epochs, folds))


def fold_ends(epochs: int, folds: int) -> list[int]:
    """The ends of all folds but the last."""
    return [epochs * fold for fold in range(1, folds)]


class Rung:
    """The objectives at one rung, and who waits there.

    `values` maps each trial to its objective, in the order in which they came.
    """

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self._sorted: list[float] = []
        self._newest: str | None = None
        # Those that wait here: objective, place in the order, trial.
        self._waiting: list[tuple[float, int, str]] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rung) and self.values == other.values

    __hash__ = None  # type: ignore[assignment]

    def add(self, trial: str, value: float) -> None:
        """Take in the objective of `trial`, which comes here now."""
        self.values[trial] = value
        self._newest = trial
        bisect.insort(self._sorted, value)

    def is_promotable(self, trial: str, reduction: int, mode: Mode) -> bool:
        """Whether `trial` goes on from here, by those that were here before it."""
        value = self.values[trial]
        if trial == self._newest:  # leaves itself out at no cost that grows with the rung
            own, count = bisect.bisect_left(self._sorted, value), len(self._sorted) - 1

            def without_own(place: int) -> float:
                return self._sorted[place + (place >= own)]

            return _reaches(without_own, count, value, reduction, mode)
        earlier = []
        for other, theirs in self.values.items():
            if other == trial:
                break
            earlier.append(theirs)
        return keeps_on(earlier, value, reduction, mode)

    def wait(self, trial: str) -> None:
        """`trial` waits here from now on."""
        bisect.insort(self._waiting, (self.values[trial], len(self.values), trial))

    def leave(self, trial: str) -> None:
        """`trial` waits here no more."""
        place = bisect.bisect_left(self._waiting, (self.values[trial], -1, ""))
        while self._waiting[place][2] != trial:
            place += 1
        del self._waiting[place]

    def best_waiting(self, mode: Mode) -> str | None:
        """The best of those that wait here."""
        if not self._waiting:
            return None
        return self._waiting[-1 if mode == "max" else 0][2]

    def promotable(self, reduction: int, mode: Mode) -> str | None:
        """The best that waits here, where it is among the best 1/`reduction` of all here."""
        best = self.best_waiting(mode)
        return best if best is not None and self.among_best(best, reduction, mode) else None

    def among_best(self, trial: str, reduction: int, mode: Mode) -> bool:
        """Whether `trial` is among the best 1/`reduction` of all that came here."""
        value = self.values[trial]
        if mode == "max":
            better = len(self._sorted) - bisect.bisect_right(self._sorted, value)
        else:
            better = bisect.bisect_left(self._sorted, value)
        return better < len(self._sorted) // reduction


def keeps_on(earlier: Sequence[float], value: float, reduction: int, mode: Mode) -> bool:
    """Whether a trial with `value` at a rung goes on, given those that were there before it.

    It does when it is not worse than the best 1/`reduction` of `earlier` (the percentile by
    linear interpolation), and always as the first.
    """
    ordered = sorted(earlier)
    return _reaches(ordered.__getitem__, len(ordered), value, reduction, mode)


def _reaches(
    at: Callable[[int], float], count: int, value: float, reduction: int, mode: Mode
) -> bool:
    """Whether `value` reaches the best 1/`reduction` of `count` values, the least `at` 0."""
    if not count:
        return True
    # As numpy's percentile interpolates, so that equals decide equally.
    place = (count - 1) * ((1 - 1 / reduction) * 100 / 100)
    below = math.floor(place)
    above, fraction = min(below + 1, count - 1), place - below
    sign = 1.0
    low, high = at(below), at(above)
    if mode == "min":
        sign, low, high = -1.0, -at(count - 1 - below), -at(count - 1 - above)
    cutoff = (
        high - (high - low) * (1 - fraction) if fraction >= 0.5 else low + (high - low) * fraction
    )
    return sign * value >= cutoff


def cannot_catch_up(
    values: Sequence[float], best: Sequence[float], mode: Mode, threshold: float
) -> bool:
    """Whether a trial is worse than the best one by a paired test over the folds both ended.

    `values` and `best` are the objectives of each fold, in the folds' order; `best` may have more.
    One-sided Wilcoxon signed-rank test, zeros split; worse where p is below `threshold`, and the
    mean of `values` is below the mean of all of `best`.
    """
    pairs = list(zip(values, best, strict=False))
    if len(pairs) < FEWEST_PAIRS:
        return False
    sign = 1.0 if mode == "max" else -1.0
    if sign * sum(values) / len(values) >= sign * sum(best) / len(best):
        return False
    differences = [sign * (mine - theirs) for mine, theirs in pairs]
    if not any(differences):
        return False
    test = wilcoxon(differences, alternative="less", zero_method="zsplit")
    return float(test.pvalue) < threshold


def out_of_patience(values: Sequence[float], patience: int, mode: Mode) -> bool:
    """Whether the best of a fold's objectives, one an epoch, is `patience` epochs old."""
    if not patience or len(values) <= patience:
        return False
    pick = max if mode == "max" else min
    return pick(values[:-patience]) == pick(values)
