"""From a searched study to its champion: chosen, refitted on all patients, registered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raysearch.data.patches import Patches, load_patches
from raysearch.errors import StudyError
from raysearch.evaluation.pooled import pooled_auroc
from raysearch.models.architectures import build
from raysearch.models.classifier import PatchClassifier
from raysearch.scores.bootstrap import Interval
from raysearch.search.engine.run import refit
from raysearch.search.history import Trial, best_finished
from raysearch.search.study import Study
from raysearch.search.tracking.models import register_champion
from raysearch.search.tracking.runs import Tracker
from raysearch.training.checkpoint import unpack
from raysearch.training.parts import DEFAULTS

EXAMPLE_ROWS = 2


@dataclass(frozen=True)
class Champion:
    """The best trial, its version in the registry, and its pooled out-of-fold AUROC."""

    trial: Trial
    version: str
    pooled: Interval | None


def crown_champion(study: Study, tracker: Tracker) -> Champion:
    """The best trial that finished all folds, refitted on all patients and registered.

    What an earlier launch did of this already is not done again. StudyError where no trial
    finished.
    """
    mode = study.plan.space.mode
    best = best_finished(study.history, mode)
    if best is None:
        raise StudyError(
            f"study {study.plan.name!r} has no champion: no trial finished all its folds; raise"
            " `trials`, or lower the learning rates"
        )
    folder = study.folder
    known = study.history.champion == best.id and folder.exists(folder.CHAMPION)
    if not known:
        refit(study, best)
        study.crown(best)
    pooled = pooled_auroc(study, best)
    facts = {
        "trial": best.id,
        "study": study.plan.identity,
        study.plan.space.metric: f"{best.objective:.6f}",
    }
    if pooled is not None:
        facts["pooled_auroc"] = str(pooled)
    version = register_champion(
        tracker, study.plan.name, champion_model(study, best), _example(study), facts
    )
    return Champion(best, version, pooled)


def champion_model(study: Study, trial: Trial) -> PatchClassifier:
    """The refitted net of `trial`, as what is registered: uint8 patches in, probabilities out."""
    plan = study.plan
    architecture = str(trial.knobs.get("architecture", DEFAULTS["architecture"]))
    net = build(architecture, plan.shape, len(plan.class_names), trial.knobs)
    stored = unpack(study.folder.read(study.folder.CHAMPION))
    net.load_state_dict(stored["model"])
    return PatchClassifier(net).eval()


def _example(study: Study) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    patches: Patches = load_patches(study.plan.data)
    rows = patches.pixels[:EXAMPLE_ROWS].reshape(-1, *patches.shape)
    return np.array(rows)
