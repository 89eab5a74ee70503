"""What a champion's trainings left in its study's folder: weights, and scores out of fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from raysearch.champion.model_artifact import ModelArtifact
from raysearch.errors import StudyError
from raysearch.metrics.calibration import tempered
from raysearch.models.classifier import Classifier
from raysearch.search.journal.history import Trial
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.fold_scores import OutOfFold, out_of_fold, out_of_fold_again
from raysearch.search.study.plan import Plan
from raysearch.training.checkpoint import unpack

Locked = Mapping[str, Any]


def classifier_of(
    folder: StudyFolder, recipe: ModelArtifact, trial: Trial, locked: Locked
) -> Classifier:
    """The champion `trial` with its weights: the refitted net, or an ensemble if that is `locked`.

    OSError or ValueError where the weights have gone, are damaged, or of another trial.

    An ensemble's temperature is each member's, fitted on what every member gave the patients that
    it did not learn from: that is honest, for no patient chose it by a net that knew them. It is
    slightly conservative for the mean: members that mean what they say and differ are together less
    sure than they are right (Rahaman and Thiery, 2021), and the ensemble itself cannot be judged
    out of fold, as each patient was learned by all members but one.
    """
    seed = _seed_of(locked)
    if seed is None:
        return recipe.trained([refitted(folder, trial)])
    nets = (folder.again_net(trial.id, seed, fold) for fold in range(trial.folds))
    return recipe.trained([unpack(folder.read(one)) for one in nets])


def refitted(folder: StudyFolder, trial: Trial) -> dict[str, Any]:
    """What the refit of `trial` left; ValueError where that is of another trial, or damaged."""
    stored = unpack(folder.read(folder.CHAMPION))
    if stored["trial"] != trial.id:  # a launch was killed between a refit and its crown
        raise ValueError(f"the weights are of {stored['trial']}")
    return stored


def champion_scores(folder: StudyFolder, plan: Plan, trial: Trial, locked: Locked) -> OutOfFold:
    """What the champion `trial` gave each patch out of fold: as it was searched, or its ensemble.

    StudyError where the study's files have lost it.
    """
    seed = _seed_of(locked)
    if seed is None:
        return out_of_fold(folder, plan, trial.id, trial.folds)
    return repeat_scores(folder, plan, trial, seed)


def calibrated_scores(folder: StudyFolder, plan: Plan, trial: Trial, locked: Locked) -> OutOfFold:
    """`champion_scores` at the locked temperature: as the champion's own probabilities are."""
    raw = champion_scores(folder, plan, trial, locked)
    return replace(raw, probabilities=tempered(raw.probabilities, float(locked["temperature"])))


def repeat_scores(folder: StudyFolder, plan: Plan, trial: Trial, seed: int) -> OutOfFold:
    """What the nets of `trial` with the fresh `seed` gave the patches that each judged.

    StudyError where the study's files have lost it.
    """
    rows = out_of_fold_again(folder, plan, trial.id, seed, range(trial.folds))
    if rows is None:
        raise StudyError(
            f"{folder.path(folder.AGAIN)}/{trial.id}/{seed}: missing or damaged; go on with"
            " `raysearch select`, which trains it again"
        )
    return rows


def _seed_of(locked: Locked) -> int | None:
    """The fresh seed of an ensemble's nets; None of a refit."""
    return int(locked["seed"]) if locked.get("kind") == "ensemble" else None
