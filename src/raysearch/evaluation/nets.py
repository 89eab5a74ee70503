"""Trained nets out of a study's folder, as what is registered: patches in, probabilities out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from raysearch.models.architectures import build
from raysearch.models.classifier import Ensemble, PatchClassifier
from raysearch.models.dihedral import AVERAGES
from raysearch.search.folder import StudyFolder
from raysearch.search.history import Trial
from raysearch.search.plan import Plan
from raysearch.training.checkpoint import unpack
from raysearch.training.parts import DEFAULTS
from raysearch.training.preparing import preprocessing_of


def net_of(plan: Plan, trial: Trial, stored: Mapping[str, Any]) -> nn.Module:
    """The net of `trial` with the weights that a training of it `stored`."""
    architecture = str(trial.knobs.get("architecture", DEFAULTS["architecture"]))
    net = build(architecture, plan.shape, len(plan.class_names), trial.knobs)
    net.load_state_dict(stored["model"])
    return net


def classifier_of(
    plan: Plan, trial: Trial, stored: Mapping[str, Any], temperature: float
) -> PatchClassifier:
    """The net that a training of `trial` `stored`, behind the pre-processing that it fitted."""
    preprocessing = preprocessing_of(trial.knobs)
    preprocessing.load_state_dict(stored.get("preprocessing", {}))
    averaged = AVERAGES[trial.knobs.get("tta", "none")](net_of(plan, trial, stored))
    return PatchClassifier(averaged, preprocessing, temperature).eval()


def ensemble_of(
    folder: StudyFolder, plan: Plan, trial: Trial, seed: int, temperature: float
) -> Ensemble:
    """The nets of all folds of `trial` with the fresh `seed`, their probabilities averaged.

    The temperature is each member's, fitted on what every member gave the patients that it did not
    learn from: that is honest, for no patient chose it by a net that knew them. It is slightly
    conservative for the mean: members that mean what they say and differ are together less sure
    than they are right (Rahaman and Thiery, 2021), and the ensemble itself cannot be judged out of
    fold, as each patient was learned by all members but one.
    """
    stored = (
        unpack(folder.read(folder.again_net(trial.id, seed, one))) for one in range(trial.folds)
    )
    return Ensemble([classifier_of(plan, trial, one, temperature) for one in stored]).eval()


def refitted(folder: StudyFolder, trial: Trial) -> dict[str, Any]:
    """What the refit of `trial` left; ValueError where that is of another trial, or damaged."""
    stored = unpack(folder.read(folder.CHAMPION))
    if stored["trial"] != trial.id:  # a launch was killed between a refit and its crown
        raise ValueError(f"the weights are of {stored['trial']}")
    return stored
