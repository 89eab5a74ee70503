"""The work that follows the search of a study: refit, registration and repeats."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Selecting, exporting and registering the champion, on two cores.
REGISTRATION_S = 2.5
# The same once the repeats are trained: the tags of the registered model are updated.
END_S = 2.5
# A worker process starts in this time, on two cores.
WORKER_START_S = 6.0
# Of a fold-epoch beside its training: scores, checkpoint, journal, start of a trial.
OVERHEAD_S = 0.3
# Of a unit that has taken longer than expected, at least this fraction is still expected.
MIN_FRACTION_LEFT = 0.1


@dataclass(frozen=True)
class WorkAfterSearch:
    """The trainings of the champion, and its registration.

    Attributes:
        folds: The number of folds.
        num_slots: The number of folds that train at a time.
        num_repeats: The folds of all repeats.
        num_repeated: Those that are trained already.
        refit_speedup: How many times as fast as a trial the refit is; None if there is none to do.
        start_s: The seconds in which a worker process starts.
    """

    folds: int
    num_slots: int
    num_repeats: int
    num_repeated: int = 0
    refit_speedup: float | None = 1.0
    start_s: float = WORKER_START_S

    def units(self, fold_s: float) -> list[float]:
        """The seconds of each step, in order, if a fold of the champion takes `fold_s`.

        An event of the journal reports the end of each step but the last.
        """
        units: list[float] = []
        if self.refit_speedup is not None:
            all_rows = self.folds / max(1, self.folds - 1)
            units.append(self.start_s + fold_s * all_rows / self.refit_speedup)
        # A slow machine also registers slowly.
        slowness = self.start_s / WORKER_START_S
        num_rounds = math.ceil(max(0, self.num_repeats - self.num_repeated) / self.num_slots)
        rounds = [fold_s + OVERHEAD_S] * num_rounds
        if self.num_repeated or not rounds:
            end_s = END_S if self.num_repeated else REGISTRATION_S
            return [*units, *rounds, end_s * slowness]
        # The champion is recorded before it is registered, and registered before it is repeated.
        first, *others = rounds
        first += REGISTRATION_S * slowness + self.start_s
        return [*units, first, *others, END_S * slowness]


def seconds_left(units: list[float], passed_s: float) -> float:
    """The seconds of steps in sequence that are left, of which the first has `passed_s`.

    A part of the first step is left, because its end has not been reported.
    """
    first, *others = units
    return max(first - passed_s, MIN_FRACTION_LEFT * first) + sum(others)
