"""Where the knobs of a study's trials lie in their ranges, and where those of the best do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raysearch.analysis.hyperparameter_ranges import place, searched_knobs
from raysearch.config.space import RANGES, Knob
from raysearch.search.journal.history import Trial
from raysearch.search.study.plan import Plan


@dataclass(frozen=True)
class Line:
    """A trial: the place of each knob that it has, from 0 to 1, and whether it is of the best."""

    trial: Trial
    places: Mapping[str, float]
    best: bool


@dataclass(frozen=True)
class Coordinates:
    """The knobs that vary, and the trials with reports, the best first."""

    knobs: tuple[Knob, ...]
    lines: tuple[Line, ...]

    @property
    def best(self) -> int:
        """How many are of the best."""
        return sum(line.best for line in self.lines)

    def counts(self, knob: Knob) -> list[tuple[str, int, int]]:
        """Of each choice of `knob`: its name, the trials of the best with it, and all with it."""
        found = []
        for value in knob.values:
            having = [line for line in self.lines if line.trial.knobs.get(knob.name) == value]
            found.append((str(value), sum(line.best for line in having), len(having)))
        return found

    def absent(self, knob: Knob) -> int:
        """How many trials do not have `knob`."""
        return sum(knob.name not in line.places for line in self.lines)


def coordinates(plan: Plan, trials: Sequence[Trial]) -> Coordinates:
    """The coordinates of `trials`, which are over one number of folds.

    The best third are those that got furthest, and among equals those with the best objective.
    """
    sign = -1.0 if plan.space.mode == "max" else 1.0
    known = [trial for trial in trials if trial.reports]
    known.sort(key=lambda trial: (-trial.epoch, sign * float(trial.reports[-1]["objective"])))
    knobs = tuple(searched_knobs(plan))
    lines = [
        Line(trial, _places(knobs, trial), rank < math.ceil(len(known) / 3))
        for rank, trial in enumerate(known)
    ]
    return Coordinates(knobs, tuple(lines))


def _places(knobs: Sequence[Knob], trial: Trial) -> dict[str, float]:
    return {
        knob.name: place(knob, trial.knobs[knob.name])
        for knob in knobs
        if knob.name in trial.knobs
        and (knob.kind in RANGES or trial.knobs[knob.name] in knob.values)
    }
