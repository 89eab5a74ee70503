"""The rungs of successive halving: at which fold-epochs trials are compared, and their objectives.

Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, for both
types of ASHA: the stopping type as in Ray Tune's `AsyncHyperBandScheduler`, and the promotion type.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Mode = Literal["max", "min"]


def rung_levels(
    epochs: int, folds: int, grace_period: int, reduction_factor: int
) -> tuple[int, ...]:
    """The rungs of a trial, in fold-epochs: inside the first fold, and at the fold ends.

    The end of the last fold is no rung, because the trial is finished there.
    """
    levels = []
    level = grace_period
    while level < epochs:
        levels.append(level)
        level *= reduction_factor
    return tuple(levels + fold_ends(epochs, folds))


def even_levels(epochs: int, folds: int, grace_period: int, step: int) -> tuple[int, ...]:
    """Rungs every `step` epochs of the first fold from `grace_period` on, and at the fold ends."""
    return (*range(grace_period, epochs, step), *fold_ends(epochs, folds))


def fold_ends(epochs: int, folds: int) -> list[int]:
    """The fold-epochs at the ends of all folds but the last."""
    return [epochs * fold for fold in range(1, folds)]


@dataclass(frozen=True, order=True)
class RungKey:
    """Which trials are compared at a rung, and when.

    With most schedules, a trial with fewer epochs is ahead of one with more epochs at the same
    fold-epoch, because its learning rate falls earlier. It is compared only with those that have as
    many.

    Args:
        folds: Number of folds of the trials.
        epoch: Fold-epochs that they have trained.
        epochs: Epochs of a fold, if `epochs` is a hyperparameter of the study; 0 otherwise.
    """

    folds: int
    epoch: int
    epochs: int = 0

    @property
    def progress(self) -> float:
        """What orders the rungs of a study from the start of a trial to its end."""
        return self.epoch / (self.folds * max(1, self.epochs))


class Rung:
    """The objectives at one rung, and the trials that wait there.

    Attributes:
        values: The objective of each trial, in the order in which they reached the rung.
    """

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self._sorted: list[float] = []
        self._newest: str | None = None
        # The trials that wait: objective, number of trials at the rung when it paused, name.
        self._waiting: list[tuple[float, int, str]] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rung) and self.values == other.values

    __hash__ = None  # type: ignore[assignment]

    def add(self, trial: str, value: float) -> None:
        """Add the objective of `trial`, which has reached the rung."""
        self.values[trial] = value
        self._newest = trial
        bisect.insort(self._sorted, value)

    def is_promotable(self, trial: str, reduction_factor: int, mode: Mode) -> bool:
        """Whether `trial` continues from this rung, given the trials that reached it before."""
        value = self.values[trial]
        if trial == self._newest:  # in time that does not grow with the number of trials
            own_index = bisect.bisect_left(self._sorted, value)

            def earlier_value(index: int) -> float:
                return self._sorted[index + (index >= own_index)]

            return _reaches_cutoff(
                earlier_value, len(self._sorted) - 1, value, reduction_factor, mode
            )
        earlier_values = []
        for other_trial, other_value in self.values.items():
            if other_trial == trial:
                break
            earlier_values.append(other_value)
        return is_among_best(earlier_values, value, reduction_factor, mode)

    def wait(self, trial: str) -> None:
        """Let `trial` wait at this rung."""
        bisect.insort(self._waiting, (self.values[trial], len(self.values), trial))

    def leave(self, trial: str) -> None:
        """Let `trial` wait at this rung no longer."""
        index = bisect.bisect_left(self._waiting, (self.values[trial], -1, ""))
        while self._waiting[index][2] != trial:
            index += 1
        del self._waiting[index]

    def best_waiting(self, mode: Mode) -> str | None:
        """The best trial that waits at this rung."""
        if not self._waiting:
            return None
        return self._waiting[-1 if mode == "max" else 0][2]

    def promotable(self, reduction_factor: int, mode: Mode) -> str | None:
        """The best waiting trial, if it is among the best 1/`reduction_factor` at this rung."""
        best = self.best_waiting(mode)
        is_promotable = best is not None and self.among_best(best, reduction_factor, mode)
        return best if is_promotable else None

    def among_best(self, trial: str, reduction_factor: int, mode: Mode) -> bool:
        """Whether `trial` is among the best 1/`reduction_factor` of all that reached the rung."""
        value = self.values[trial]
        if mode == "max":
            num_better = len(self._sorted) - bisect.bisect_right(self._sorted, value)
        else:
            num_better = bisect.bisect_left(self._sorted, value)
        return num_better < len(self._sorted) // reduction_factor


def is_among_best(
    earlier_values: Sequence[float], value: float, reduction_factor: int, mode: Mode
) -> bool:
    """Whether a trial with `value` continues from a rung that has `earlier_values`.

    It does if it is not worse than the best 1/`reduction_factor` of them (the percentile by linear
    interpolation), and always as the first.
    """
    ordered = sorted(earlier_values)
    return _reaches_cutoff(ordered.__getitem__, len(ordered), value, reduction_factor, mode)


def _reaches_cutoff(
    value_at: Callable[[int], float], count: int, value: float, reduction_factor: int, mode: Mode
) -> bool:
    """Whether `value` reaches the best 1/`reduction_factor` of `count` values, smallest at 0."""
    if not count:
        return True
    # The interpolation is that of numpy's percentile, so that equal values decide equally.
    position = (count - 1) * ((1 - 1 / reduction_factor) * 100 / 100)
    lower = math.floor(position)
    upper, fraction = min(lower + 1, count - 1), position - lower
    sign = 1.0
    low, high = value_at(lower), value_at(upper)
    if mode == "min":
        sign, low, high = -1.0, -value_at(count - 1 - lower), -value_at(count - 1 - upper)
    cutoff = (
        high - (high - low) * (1 - fraction) if fraction >= 0.5 else low + (high - low) * fraction
    )
    return sign * value >= cutoff
