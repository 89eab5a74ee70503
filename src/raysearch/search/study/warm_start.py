"""Starts a new study with the best configurations of earlier studies of the same space."""

from __future__ import annotations

from dataclasses import replace

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.space import Point, Space
from raysearch.errors import StudyError
from raysearch.search.journal.history import finished
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.stored_study import load_study

# So many trials of each earlier study are evaluated first.
TRIALS_PER_STUDY = 3


def warm_started(space: Space, studies: str) -> Space:
    """Append the best trials of the studies in `warm_start` to the points of `space`.

    Args:
        space: The search space.
        studies: Folder of the studies.

    Raises:
        StudyError: If an earlier study does not exist, has no finished trial, has another
            objective, or its best trials are not in this space.
    """
    points: list[Point] = list(space.points_to_evaluate)
    for name in space.warm_start:
        study = load_study(StudyFolder(f"{studies}/{name}"))
        earlier = study.plan.space
        if (earlier.metric, earlier.mode) != (space.metric, space.mode):
            raise StudyError(
                f"warm_start: study {name!r} has the objective {earlier.metric}, {earlier.mode},"
                f" this one has {space.metric}, {space.mode}; remove it"
            )
        best = finished(study.history, study.plan.space.mode)[:TRIALS_PER_STUDY]
        if not best:
            raise StudyError(f"warm_start: study {name!r} has no finished trial; remove it")
        points += [_point(space, name, trial.hparams) for trial in best]
    return replace(space, points_to_evaluate=tuple(dict.fromkeys(points)))


def _point(space: Space, study: str, hparams: Hparams) -> Point:
    """The values of the searched hyperparameters in `hparams`; StudyError for one outside."""
    values = {}
    for hyperparameter in space.hparams:
        name = hyperparameter.name
        if name not in hparams or hyperparameter.kind == "fixed":
            continue
        if not hyperparameter.contains(hparams[name]):
            raise StudyError(
                f"warm_start: study {study!r} has another space: its best {name} is"
                f" {hparams[name]}, but here it is {hyperparameter}; remove the study, or widen the"
                " hyperparameter"
            )
        values[name] = hparams[name]
    return tuple(values.items())
