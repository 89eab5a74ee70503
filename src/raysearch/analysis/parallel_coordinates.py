"""Where the hyperparameters of a study's trials lie in their ranges, and where those of the best do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raysearch.analysis.hyperparameter_ranges import place, searched_hparams
from raysearch.config.space import RANGES, Hyperparameter
from raysearch.search.journal.history import Trial
from raysearch.search.study.plan import Plan


@dataclass(frozen=True)
class Line:
    """A trial: the place of each hyperparameter that it has, from 0 to 1, and whether it is of the best."""

    trial: Trial
    places: Mapping[str, float]
    best: bool


@dataclass(frozen=True)
class Coordinates:
    """The hyperparameters that vary, and the trials with reports, the best first."""

    hparams: tuple[Hyperparameter, ...]
    lines: tuple[Line, ...]

    @property
    def best(self) -> int:
        """How many are of the best."""
        return sum(line.best for line in self.lines)

    def counts(self, hyperparameter: Hyperparameter) -> list[tuple[str, int, int]]:
        """Of each choice of `hyperparameter`: its name, the trials of the best with it, and all with it."""
        found = []
        for value in hyperparameter.values:
            having = [
                line for line in self.lines if line.trial.hparams.get(hyperparameter.name) == value
            ]
            found.append((str(value), sum(line.best for line in having), len(having)))
        return found

    def absent(self, hyperparameter: Hyperparameter) -> int:
        """How many trials do not have `hyperparameter`."""
        return sum(hyperparameter.name not in line.places for line in self.lines)


def coordinates(plan: Plan, trials: Sequence[Trial]) -> Coordinates:
    """The coordinates of `trials`, which are over one number of folds.

    The best third are those that got furthest, and among equals those with the best objective.
    """
    sign = -1.0 if plan.space.mode == "max" else 1.0
    known = [trial for trial in trials if trial.reports]
    known.sort(key=lambda trial: (-trial.epoch, sign * float(trial.reports[-1]["objective"])))
    hparams = tuple(searched_hparams(plan))
    lines = [
        Line(trial, _places(hparams, trial), rank < math.ceil(len(known) / 3))
        for rank, trial in enumerate(known)
    ]
    return Coordinates(hparams, tuple(lines))


def _places(hparams: Sequence[Hyperparameter], trial: Trial) -> dict[str, float]:
    return {
        hyperparameter.name: place(hyperparameter, trial.hparams[hyperparameter.name])
        for hyperparameter in hparams
        if hyperparameter.name in trial.hparams
        and (
            hyperparameter.kind in RANGES
            or trial.hparams[hyperparameter.name] in hyperparameter.values
        )
    }
