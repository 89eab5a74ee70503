"""From a searched study to its champion: selected, refitted on all patients, registered."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from raysearch.data.patches import Patches, load_patches
from raysearch.errors import StudyError
from raysearch.evaluation.decision import Decision, Options, decide
from raysearch.evaluation.pooled import InContext, auroc_in_context, pooled_auroc
from raysearch.evaluation.recipe import Recipe, pack_recipe, recipe_of
from raysearch.evaluation.selecting import Selection, select
from raysearch.models.architectures import build
from raysearch.models.classifier import PatchClassifier
from raysearch.models.transfer.layers import inside
from raysearch.scores.bootstrap import Interval
from raysearch.scores.calibration import tempered
from raysearch.search.engine.run import refit
from raysearch.search.fold_scores import out_of_fold
from raysearch.search.folder import StudyFolder
from raysearch.search.history import History, Trial
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
    """The selected trial, its version in the registry, and its pooled out-of-fold AUROC.

    `pooled` is that of each patch alone, `in_context` that with those near it.
    """

    trial: Trial
    version: str
    selection: Selection
    decision: Decision
    pooled: Interval | None
    in_context: InContext | None


def crown_champion(study: Study, tracker: Tracker, options: Options | None = None) -> Champion:
    """The trial that is selected by `options`, refitted on all patients and registered.

    Without `options` by those of the last selection. Where a refit fails, as it may by a loss that
    is not finite, the next best is taken. What was done of this already is not done again.
    StudyError where no trial finished.
    """
    options = options or Options.of(study.history.locked)
    selection = select(study.folder, study.plan, study.history, options.margin)
    best = _refitted_already(study, selection.chosen) or _refit_first(study, selection.order)
    rows = out_of_fold(study.folder, study.plan, best.id, best.folds)
    decision = decide(rows, options.criterion)
    locked = {"margin": options.margin, **decision.told}
    if (best.id, locked) != (study.history.champion, study.history.locked):
        study.crown(best, locked)
    # As the registered model gives them: what those near a patch say hangs on how sure they are.
    calibrated = tempered(rows.probabilities, decision.temperature)
    rows = replace(rows, probabilities=calibrated)
    pooled, near = pooled_auroc(rows), auroc_in_context(rows, study.plan)
    model = champion_model(study, best, decision.temperature)
    version = register_champion(
        tracker,
        study.plan.name,
        model,
        _example(study),
        _facts(study, best, selection, decision, pooled, near),
        pack_recipe(recipe_of(study.plan, best, locked), model),
    )
    return Champion(best, version, selection, decision, pooled, near)


def _facts(
    study: Study,
    trial: Trial,
    selection: Selection,
    decision: Decision,
    pooled: Interval | None,
    near: InContext | None,
) -> dict[str, str]:
    """What the registered version says of itself."""
    metric = study.plan.space.metric
    facts = {
        "trial": trial.id,
        "study": study.plan.identity,
        metric: f"{trial.objective:.6f}",
        f"{metric}_corrected": str(selection.corrected),
        "tied": " ".join(one.trial.id for one in selection.tied),
        "temperature": f"{decision.temperature:.6g}",
    }
    if decision.threshold is not None:
        facts |= {"threshold": f"{decision.threshold:.6g}", "threshold_by": decision.criterion}
    if pooled is not None:
        facts["pooled_auroc"] = str(pooled)
    if near is not None:
        facts |= {"auroc_in_context": str(near.pooled), "context": str(near.context)}
    return facts


def _refitted_already(study: Study, chosen: Trial) -> Trial | None:
    """The `chosen` trial, where the weights of its refit are whole."""
    try:
        stored = unpack(study.folder.read(study.folder.CHAMPION))
    except (OSError, ValueError):
        return None
    return chosen if stored["trial"] == chosen.id else None


def _refit_first(study: Study, order: Sequence[Trial]) -> Trial:
    """The first in `order` whose refit does not fail, refitted."""
    for trial in order:
        try:
            refit(study, trial)
        except TrainingFailedError as failure:
            log.warning("%s could not be refitted: %s", trial.id, failure)
            continue
        return trial
    raise StudyError(
        f"study {study.plan.name!r} has no champion: none of its {len(order)} finished trials could"
        " be refitted; raise `trials`, or lower the learning rates"
    )


def champion_model(study: Study, trial: Trial, temperature: float = 1.0) -> PatchClassifier:
    """The refitted net of `trial`, as what is registered: uint8 patches in, probabilities out.

    They are calibrated by `temperature`.
    """
    recipe = recipe_of(study.plan, trial, {"temperature": temperature})
    return _classifier(study.folder, study.plan, trial, recipe)


def champion_of(
    folder: StudyFolder, plan: Plan, history: History
) -> tuple[Recipe, PatchClassifier]:
    """The champion of the study in `folder`, as it is registered; as `champion_net` refuses."""
    with _refused_where_lost(folder):
        trial = _crowned(plan, history)
        recipe = recipe_of(plan, trial, history.locked)
        return recipe, _classifier(folder, plan, trial, recipe)


def _classifier(folder: StudyFolder, plan: Plan, trial: Trial, recipe: Recipe) -> PatchClassifier:
    net, stored = _refitted(folder, plan, trial)
    preprocessing = preprocessing_of(trial.knobs)
    preprocessing.load_state_dict(stored.get("preprocessing", {}))
    return recipe.around(net, preprocessing)


def champion_net(folder: StudyFolder, plan: Plan, history: History) -> tuple[Trial, nn.Module]:
    """The champion of the study in `folder`, and its refitted net; StudyError where it has none."""
    with _refused_where_lost(folder):
        trial = _crowned(plan, history)
        return trial, inside(_refitted(folder, plan, trial)[0])


def _crowned(plan: Plan, history: History) -> Trial:
    if history.champion is None:
        raise StudyError(f"study {plan.name!r} has no champion yet; let it end, or go on with it")
    return history.trials[history.champion]


@contextmanager
def _refused_where_lost(folder: StudyFolder) -> Iterator[None]:
    try:
        yield
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
    if stored["trial"] != trial.id:  # a launch was killed between a refit and its crown
        raise ValueError(f"the weights are of {stored['trial']}")
    net.load_state_dict(stored["model"])
    return net, stored


def _example(study: Study) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    patches: Patches = load_patches(study.plan.data, view=study.plan.view)
    rows = patches.pixels[:EXAMPLE_ROWS].reshape(-1, *patches.shape)
    return np.array(rows)
