"""From a searched study to its champion: chosen, refitted on all patients, registered."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from raysearch.data.patches import Patches, load_patches
from raysearch.errors import StudyError
from raysearch.evaluation.pooled import InContext, auroc_in_context, pooled_auroc
from raysearch.models.architectures import build
from raysearch.models.classifier import PatchClassifier
from raysearch.models.dihedral import AVERAGES
from raysearch.models.transfer.layers import inside
from raysearch.scores.bootstrap import Interval
from raysearch.search.engine.run import refit
from raysearch.search.folder import StudyFolder
from raysearch.search.history import History, Trial, finished
from raysearch.search.plan import Plan
from raysearch.search.study import Study
from raysearch.search.tracking.models import register_champion
from raysearch.search.tracking.runs import Tracker
from raysearch.training.checkpoint import unpack
from raysearch.training.failures import TrainingFailedError
from raysearch.training.parts import DEFAULTS
from raysearch.training.preparing import preprocessing_of

log = logging.getLogger(__name__)
EXAMPLE_ROWS = 2


@dataclass(frozen=True)
class Champion:
    """The best trial, its version in the registry, and its pooled out-of-fold AUROC.

    `pooled` is that of each patch alone, `in_context` that with those near it.
    """

    trial: Trial
    version: str
    pooled: Interval | None
    in_context: InContext | None


def crown_champion(study: Study, tracker: Tracker) -> Champion:
    """The best trial that finished all folds, refitted on all patients and registered.

    Where a refit fails, as it may by a loss that is not finite, the next best is taken. What an
    earlier launch did of this already is not done again. StudyError where no trial finished.
    """
    best = _refitted_already(study) or _refit_best(study)
    pooled = pooled_auroc(study, best)
    facts = {
        "trial": best.id,
        "study": study.plan.identity,
        study.plan.space.metric: f"{best.objective:.6f}",
    }
    if pooled is not None:
        facts["pooled_auroc"] = str(pooled)
    near = auroc_in_context(study, best)
    if near is not None:
        facts |= {"auroc_in_context": str(near.pooled), "context": str(near.context)}
    version = register_champion(
        tracker, study.plan.name, champion_model(study, best), _example(study), facts
    )
    return Champion(best, version, pooled, near)


def _refitted_already(study: Study) -> Trial | None:
    """The champion of an earlier launch, where its weights are whole and no better one came."""
    known = study.history.champion
    best = finished(study.history, study.plan.space.mode)
    later = study.history.ended > study.history.ended_when_crowned
    if known is None or (later and best[0].id != known):
        return None
    try:
        stored = unpack(study.folder.read(study.folder.CHAMPION))
    except (OSError, ValueError):
        return None
    return study.history.trials[known] if stored["trial"] == known else None


def _refit_best(study: Study) -> Trial:
    """The best finished trial whose refit does not fail, refitted and written down."""
    for trial in finished(study.history, study.plan.space.mode):
        try:
            refit(study, trial)
        except TrainingFailedError as failure:
            log.warning("%s could not be refitted: %s", trial.id, failure)
            continue
        study.crown(trial)
        return trial
    raise StudyError(
        f"study {study.plan.name!r} has no champion: no trial finished all its folds, or none"
        " could be refitted; raise `trials`, or lower the learning rates"
    )


def champion_model(study: Study, trial: Trial) -> PatchClassifier:
    """The refitted net of `trial`, as what is registered: uint8 patches in, probabilities out."""
    net, stored = _refitted(study.folder, study.plan, trial)
    preprocessing = preprocessing_of(trial.knobs)
    preprocessing.load_state_dict(stored.get("preprocessing", {}))
    averaged = AVERAGES[trial.knobs.get("tta", "none")](net)
    return PatchClassifier(averaged, preprocessing).eval()


def champion_net(folder: StudyFolder, plan: Plan, history: History) -> tuple[Trial, nn.Module]:
    """The champion of the study in `folder`, and its refitted net; StudyError where it has none."""
    if history.champion is None:
        raise StudyError(f"study {plan.name!r} has no champion yet; let it end, or go on with it")
    trial = history.trials[history.champion]
    try:
        return trial, inside(_refitted(folder, plan, trial)[0])
    except (OSError, ValueError):
        raise StudyError(
            f"{folder.path(folder.CHAMPION)}: missing or damaged; restore it, or go on with"
            " `raysearch launch --resume`, which refits"
        ) from None


def _refitted(folder: StudyFolder, plan: Plan, trial: Trial) -> tuple[nn.Module, dict[str, Any]]:
    """The net of `trial` with the weights of its refit, and all that the refit left."""
    architecture = str(trial.knobs.get("architecture", DEFAULTS["architecture"]))
    net = build(architecture, plan.shape, len(plan.class_names), trial.knobs)
    stored = unpack(folder.read(folder.CHAMPION))
    net.load_state_dict(stored["model"])
    return net, stored


def _example(study: Study) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    patches: Patches = load_patches(study.plan.data, view=study.plan.view)
    rows = patches.pixels[:EXAMPLE_ROWS].reshape(-1, *patches.shape)
    return np.array(rows)
