"""From a searched study to its champion: chosen, refitted on all patients, registered."""

from __future__ import annotations

import numpy as np

from raysearch.data.patches import Patches, load_patches
from raysearch.errors import StudyError
from raysearch.models.architectures import build
from raysearch.models.classifier import PatchClassifier
from raysearch.search.engine.run import refit
from raysearch.search.history import Trial, best_finished
from raysearch.search.study import Study
from raysearch.search.tracking.models import register_champion
from raysearch.search.tracking.runs import Tracker
from raysearch.training.checkpoint import unpack
from raysearch.training.parts import DEFAULTS

EXAMPLE_ROWS = 2


def crown_champion(study: Study, tracker: Tracker) -> tuple[Trial, str]:
    """The best trial that finished all folds, refitted and registered, and its version.

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
    facts = {
        "trial": best.id,
        "study": study.plan.identity,
        study.plan.space.metric: f"{best.objective:.6f}",
    }
    version = register_champion(
        tracker, study.plan.name, champion_model(study, best), _example(study), facts
    )
    return best, version


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
