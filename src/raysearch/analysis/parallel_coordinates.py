"""Parallel coordinates: each trial as a line over the ranges of its hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raysearch.config.space import RANGES, Hyperparameter
from raysearch.config.space_geometry import unit_position
from raysearch.data.pseudonyms import without_folders
from raysearch.metrics.objective import sort_key
from raysearch.search.journal.history import Trial, training_progress
from raysearch.search.study.plan import Plan

# The best 1 / BEST_DIVISOR of the trials are highlighted.
BEST_DIVISOR = 3


def value_text(value: object) -> str:
    """Return a hyperparameter's value: four significant digits, and no folder of a file."""
    return f"{value:.4g}" if isinstance(value, float) else without_folders(str(value))


@dataclass(frozen=True)
class TrialLine:
    """A trial, the position of each of its hyperparameters from 0 to 1, and if it is a best one."""

    trial: Trial
    positions: Mapping[str, float]
    is_best: bool


@dataclass(frozen=True)
class ParallelCoordinates:
    """The searched hyperparameters, and the trials with reports, the best first."""

    hparams: tuple[Hyperparameter, ...]
    lines: tuple[TrialLine, ...]

    @property
    def num_best(self) -> int:
        """The number of the best trials."""
        return sum(line.is_best for line in self.lines)

    def choice_counts(self, hparam: Hyperparameter) -> list[tuple[str, int, int]]:
        """Return each choice of `hparam` with its best trials and all its trials, as counts."""
        counts = []
        for value in hparam.values:
            lines = [line for line in self.lines if line.trial.hparams.get(hparam.name) == value]
            counts.append((str(value), sum(line.is_best for line in lines), len(lines)))
        return counts

    def num_absent(self, hparam: Hyperparameter) -> int:
        """Return the number of trials without `hparam`."""
        return sum(hparam.name not in line.positions for line in self.lines)


def parallel_coordinates(plan: Plan, trials: Sequence[Trial]) -> ParallelCoordinates:
    """Return the parallel coordinates of trials with the same number of folds.

    The best third are the trials with the largest fraction of their fold-epochs; of equals, those
    with the best objective.
    """
    scored = [(trial, trial.objective) for trial in trials]
    ranked = [(trial, objective) for trial, objective in scored if objective is not None]
    ranked.sort(
        key=lambda item: (
            -training_progress(plan.space, item[0]),
            sort_key(item[1], plan.space.mode),
        )
    )
    hparams = tuple(plan.space.searched_hparams())
    num_best = math.ceil(len(ranked) / BEST_DIVISOR)
    lines = [
        TrialLine(trial, _positions(hparams, trial), rank < num_best)
        for rank, (trial, _objective) in enumerate(ranked)
    ]
    return ParallelCoordinates(hparams, tuple(lines))


def _positions(hparams: Sequence[Hyperparameter], trial: Trial) -> dict[str, float]:
    """Return the positions of the trial's values; a choice outside the space has none."""
    return {
        hparam.name: unit_position(hparam, trial.hparams[hparam.name], cells=False)
        for hparam in hparams
        if hparam.name in trial.hparams
        and (hparam.kind in RANGES or trial.hparams[hparam.name] in hparam.values)
    }
