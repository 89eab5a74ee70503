"""Points for a new study to begin with: the best of earlier studies of the same space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from raysearch.config.space import RANGES, Hyperparameter, Point, Space
from raysearch.errors import StudyError
from raysearch.search.journal.history import finished
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.study import read_history, read_plan

# So many of each earlier study.
BEST = 3


def warm_started(space: Space, studies: str) -> Space:
    """`space` with the best trials of the studies in its `warm_start` as points, after its own.

    The studies lie in the folder `studies`. StudyError for one that is not there, that finished no
    trial, or whose best trials are not of this space.
    """
    found: list[Point] = list(space.points)
    for name in space.warm_start:
        folder = StudyFolder(f"{studies}/{name}")
        plan, history = read_plan(folder), read_history(folder)
        if plan.space.metric != space.metric:
            raise StudyError(
                f"warm_start: study {name!r} was for {plan.space.metric}, this one is for"
                f" {space.metric}; leave it out"
            )
        best = finished(history, plan.space.mode)[:BEST]
        if not best:
            raise StudyError(f"warm_start: study {name!r} finished no trial; leave it out")
        found += [_point(space, name, trial.hparams) for trial in best]
    return replace(space, points=tuple(dict.fromkeys(found)))


def _point(space: Space, study: str, hparams: Mapping[str, Any]) -> Point:
    """The values of `hparams` that are searched in `space`; StudyError where one is outside it."""
    chosen = {}
    for hyperparameter in space.hparams:
        if hyperparameter.name not in hparams or hyperparameter.kind == "fixed":
            continue
        if not _inside(hyperparameter, hparams[hyperparameter.name]):
            raise StudyError(
                f"warm_start: study {study!r} is of another space: its best {hyperparameter.name} is"
                f" {hparams[hyperparameter.name]}, here it is {hyperparameter}; leave it out, or widen the hyperparameter"
            )
        chosen[hyperparameter.name] = hparams[hyperparameter.name]
    return tuple(chosen.items())


def _inside(hyperparameter: Hyperparameter, value: Any) -> bool:
    if hyperparameter.kind in RANGES:
        low, high = hyperparameter.values
        return isinstance(value, (int, float)) and float(low) <= value <= float(high)
    return value in hyperparameter.values
