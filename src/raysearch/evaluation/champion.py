"""From a searched study to its champion: selected, trained again, and registered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from raysearch.data.patches import Patches, load_patches
from raysearch.errors import StudyError
from raysearch.evaluation.decision import Decision, Options, decide
from raysearch.evaluation.fresh import Fresh, scores_again
from raysearch.evaluation.making import made
from raysearch.evaluation.nets import classifier_of, ensemble_of, net_of, refitted
from raysearch.evaluation.pooled import InContext, auroc_in_context, pooled_auroc
from raysearch.evaluation.selecting import Selection, select
from raysearch.models.classifier import Ensemble, PatchClassifier
from raysearch.models.transfer.layers import inside
from raysearch.scores.bootstrap import Interval
from raysearch.scores.calibration import tempered
from raysearch.search.fold_scores import OutOfFold, out_of_fold
from raysearch.search.folder import StudyFolder
from raysearch.search.history import History, Trial
from raysearch.search.plan import Plan
from raysearch.search.space import Crowned
from raysearch.search.study import Study
from raysearch.search.tracking.models import register_champion
from raysearch.search.tracking.runs import Tracker

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
    kind: Crowned = "refit"
    fresh: tuple[Fresh, ...] = ()


def crown_champion(study: Study, tracker: Tracker, options: Options | None = None) -> Champion:
    """The trial that is selected by `options`, refitted or as an ensemble, and registered.

    Without `options` by those of the last selection. It is also trained again with fresh seeds.
    Where a refit fails, or all seeds of an ensemble do, as they may by a loss that is not finite,
    the next best is taken. What was done of this already is not done again. StudyError where no
    trial finished.
    """
    options = options or Options.of(study.history.locked, study.plan.space)
    selection = select(study.folder, study.plan, study.history, options.margin)
    best, fresh = made(study, selection, options)
    seed = next((one.seed for one in fresh if one.objective), None)
    rows = _judged(study, best, seed if options.kind == "ensemble" else None)
    decision = decide(rows, options.criterion)
    locked = _locked(options, decision, seed)
    if (best.id, locked) != (study.history.champion, study.history.locked):
        study.crown(best, locked, _values(fresh))
    # As the registered model gives them: what those near a patch say hangs on how sure they are.
    calibrated = tempered(rows.probabilities, decision.temperature)
    rows = replace(rows, probabilities=calibrated)
    pooled, near = pooled_auroc(rows), auroc_in_context(rows, study.plan)
    version = register_champion(
        tracker,
        study.plan.name,
        champion_model(study, best, decision.temperature),
        _example(study),
        {
            **_facts(study, best, selection, decision, pooled, near),
            **_kind_facts(study.plan.space.metric, options.kind, fresh),
        },
    )
    return Champion(best, version, selection, decision, pooled, near, options.kind, fresh)


def _judged(study: Study, trial: Trial, seed: int | None) -> OutOfFold:
    """The out-of-fold scores of `trial`: as it was searched, or with a fresh `seed`."""
    if seed is None:
        return out_of_fold(study.folder, study.plan, trial.id, trial.folds)
    return scores_again(study.folder, study.plan, trial, seed)


def _values(fresh: Sequence[Fresh]) -> list[float]:
    """The objectives that there are."""
    found = (one.objective.value for one in fresh if one.objective)
    return [value for value in found if value is not None]


def _locked(options: Options, decision: Decision, seed: int | None) -> dict[str, Any]:
    """What is locked with a champion; of an ensemble, also which seed its nets have."""
    asked = {"margin": options.margin, "kind": options.kind, "fresh_seeds": options.fresh_seeds}
    seeds = {"seed": seed} if options.kind == "ensemble" else {}
    return {**asked, **seeds, **decision.told}


def _kind_facts(metric: str, kind: Crowned, fresh: Sequence[Fresh]) -> dict[str, str]:
    """What the registered version says of how it was made, and of the fresh seeds."""
    told = "; ".join(str(one.objective) for one in fresh if one.objective)
    return {"kind": kind, **({f"{metric}_fresh": told} if told else {})}


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


def champion_model(
    study: Study, trial: Trial, temperature: float = 1.0
) -> PatchClassifier | Ensemble:
    """The champion `trial` as what is registered: uint8 patches in, probabilities out.

    It is the refitted net, or the ensemble where the journal says that this was locked. The
    probabilities are calibrated by `temperature`.
    """
    folder, plan, locked = study.folder, study.plan, study.history.locked
    if locked.get("kind") == "ensemble":
        return ensemble_of(folder, plan, trial, locked["seed"], temperature)
    return classifier_of(plan, trial, refitted(folder, trial), temperature)


def champion_net(folder: StudyFolder, plan: Plan, history: History) -> tuple[Trial, nn.Module]:
    """The champion of the study in `folder`, and its refitted net; StudyError where it has none."""
    if history.locked.get("kind") == "ensemble":
        raise StudyError(
            f"the champion of {plan.name!r} is an ensemble, not one net; `raysearch select"
            f" {plan.name} --refit` makes one of all patients"
        )
    if history.champion is None:
        raise StudyError(f"study {plan.name!r} has no champion yet; let it end, or go on with it")
    trial = history.trials[history.champion]
    try:
        return trial, inside(net_of(plan, trial, refitted(folder, trial)))
    except (OSError, ValueError):
        raise StudyError(
            f"{folder.path(folder.CHAMPION)}: missing or damaged; restore it, or go on with"
            " `raysearch launch --resume`, which refits"
        ) from None


def _example(study: Study) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    patches: Patches = load_patches(study.plan.data, view=study.plan.view)
    rows = patches.pixels[:EXAMPLE_ROWS].reshape(-1, *patches.shape)
    return np.array(rows)
