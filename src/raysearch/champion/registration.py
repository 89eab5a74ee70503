"""From a searched study to its champion: selected, trained again, and registered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from raysearch.champion.build import made
from raysearch.champion.model_artifact import ModelArtifact, artifact_of, pack_artifact
from raysearch.champion.repeated_cv import Fresh, Say, repeat
from raysearch.champion.trained_networks import champion_scores, classifier_of, refitted
from raysearch.config.space import ChampionKind
from raysearch.data.patches import Patches, load_patches
from raysearch.errors import StudyError
from raysearch.metrics.bootstrap import Interval
from raysearch.metrics.calibration import tempered
from raysearch.models.classifier import Classifier
from raysearch.models.transfer.layer_order import inside
from raysearch.search.journal.history import History, Trial
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan
from raysearch.search.study.study import Study
from raysearch.search.tracking.model_registry import register_champion
from raysearch.search.tracking.tracker import Tracker
from raysearch.selection.decision_rule import Decision, Options, decide
from raysearch.selection.pooled_scores import InContext, auroc_in_context, pooled_auroc
from raysearch.selection.selection import Selection, select

EXAMPLE_ROWS = 2


@dataclass(frozen=True)
class Champion:
    """The selected trial, its version in the registry, and its pooled out-of-fold AUROC.

    `pooled` is that of each patch alone, `in_context` that with those near it: of the trial as it
    was searched, and of its first fresh seed where `kind` says that its nets are the ensemble.
    """

    trial: Trial
    version: str
    selection: Selection
    decision: Decision
    pooled: Interval | None
    in_context: InContext | None
    kind: ChampionKind = "refit"
    fresh: tuple[Fresh, ...] = ()


def select_and_register_champion(
    study: Study, tracker: Tracker, say: Say, options: Options | None = None
) -> Champion:
    """The trial that is selected by `options`, refitted or as an ensemble, and registered.

    Without `options` by those of the last selection. It is also trained again with fresh seeds, a
    refit after it was registered. Where a refit fails, or all seeds of an ensemble do, as they may
    by a loss that is not finite, the next best is taken. What was done of this already is not done
    again. `say` hears what is being done. StudyError where no trial finished.
    """
    say("selecting the champion")
    options = options or Options.of(study.history.locked, study.plan.space)
    selection = select(study.folder, study.plan, study.history, options.margin)
    best, fresh = made(study, selection, options, say)
    made_of = _made_of(options, fresh)
    rows = champion_scores(study.folder, study.plan, best, made_of)
    decision = decide(rows, options.criterion)
    locked = {**made_of, **decision.told}
    if (best.id, locked) != (study.history.champion, study.history.locked):
        study.crown(best, locked, _values(fresh))
    # As the registered model gives them: what those near a patch say hangs on how sure they are.
    calibrated = tempered(rows.probabilities, decision.temperature)
    rows = replace(rows, probabilities=calibrated)
    pooled, near = pooled_auroc(rows), auroc_in_context(rows, study.plan)
    facts = _facts(study, best, selection, decision, pooled, near) | {"kind": options.kind}
    say("registering the champion")
    version = _registered(study, tracker, facts, fresh)
    if options.kind == "refit" and options.repeats:
        # After all else: where it cannot be done now, the study has its champion.
        fresh = repeat(study, best, options, selection.draws, say)
        if (values := _values(fresh)) != list(study.history.fresh):
            study.crown(best, locked, values)
        _registered(study, tracker, facts, fresh)
    return Champion(best, version, selection, decision, pooled, near, options.kind, fresh)


def _registered(
    study: Study, tracker: Tracker, facts: Mapping[str, str], fresh: Sequence[Fresh]
) -> str:
    """The version of the study's champion in the registry, with `facts` and what is `fresh`."""
    recipe, model = champion_of(study.folder, study.plan, study.history)
    told = "; ".join(str(one.objective) for one in fresh if one.objective)
    name = f"{study.plan.space.metric}_fresh"
    return register_champion(
        tracker,
        study.plan.name,
        model,
        _example(study),
        {**facts, **({name: told} if told else {})},
        pack_artifact(recipe, model),
    )


def _values(fresh: Sequence[Fresh]) -> list[float]:
    """The objectives that there are."""
    found = (one.objective.value for one in fresh if one.objective)
    return [value for value in found if value is not None]


def _made_of(options: Options, fresh: Sequence[Fresh]) -> dict[str, Any]:
    """What a champion was asked for; of an ensemble, also which fresh seed its nets have."""
    asked = {"margin": options.margin, "kind": options.kind, "repeats": options.repeats}
    if options.kind == "refit":
        return asked
    return {**asked, "seed": next(one.seed for one in fresh if one.objective)}


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


def champion_of(
    folder: StudyFolder, plan: Plan, history: History
) -> tuple[ModelArtifact, Classifier]:
    """The champion of the study in `folder`, as what is registered: uint8 patches, probabilities.

    StudyError where it has none, or the weights have gone.
    """
    trial, locked = _champion_trial(plan, history), history.locked
    recipe = artifact_of(plan, trial, locked)
    try:
        return recipe, classifier_of(folder, recipe, trial, locked)
    except (OSError, ValueError):
        raise _lost(folder, folder.CHAMPION if recipe.members == 1 else folder.AGAIN) from None


def champion_net(folder: StudyFolder, plan: Plan, history: History) -> tuple[Trial, nn.Module]:
    """The champion of the study in `folder`, and its refitted net; StudyError where it has none."""
    trial, locked = _champion_trial(plan, history), history.locked
    if locked.get("kind") == "ensemble":
        raise StudyError(
            f"the champion of {plan.name!r} is an ensemble, not one net; `raysearch select"
            f" {plan.name} --refit` makes one of all patients"
        )
    try:
        return trial, inside(artifact_of(plan, trial, locked).net(refitted(folder, trial)))
    except (OSError, ValueError):
        raise _lost(folder, folder.CHAMPION) from None


def _champion_trial(plan: Plan, history: History) -> Trial:
    if history.champion is None:
        raise StudyError(f"study {plan.name!r} has no champion yet; let it end, or go on with it")
    return history.trials[history.champion]


def _lost(folder: StudyFolder, name: str) -> StudyError:
    return StudyError(
        f"{folder.path(name)}: missing or damaged; restore it, or go on with `raysearch launch"
        " --resume`, which trains the champion again"
    )


def _example(study: Study) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    patches: Patches = load_patches(study.plan.data, view=study.plan.view)
    rows = patches.pixels[:EXAMPLE_ROWS].reshape(-1, *patches.shape)
    return np.array(rows)
