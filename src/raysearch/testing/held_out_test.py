"""The held-out groups of a study, opened: its locked champion judged by patients nobody looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raysearch.champion.trained_networks import calibrated_scores
from raysearch.data.files import Folder
from raysearch.data.patches import Patches, load_hashes, load_patches, load_rows
from raysearch.data.splits.access_log import (
    TestSetAccess,
    record_test_set_access,
    test_set_accesses,
)
from raysearch.data.splits.split_manifest import SplitManifest, read_split_manifest
from raysearch.data.view import View
from raysearch.errors import StudyError
from raysearch.inference.model_loading import Model, Progress, score
from raysearch.metrics.bootstrap import Interval
from raysearch.metrics.evaluation import Scored
from raysearch.search.journal.history import History
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan
from raysearch.selection.pooled_scores import auroc_by_context, auroc_in_context
from raysearch.testing.test_results import HELD_OUT, About, keep


@dataclass(frozen=True)
class HeldOutSet:
    """The held-out groups of a study's `split_manifest`, called `name`, and every opening so far.

    `view` shows them alone; `learned` is what the study sees.
    """

    name: str
    split_manifest: SplitManifest
    view: View
    learned: View
    earlier: tuple[TestSetAccess, ...]


def held_out_set(plan: Plan) -> HeldOutSet:
    """The held-out set of the study of `plan`; StudyError where there is none."""
    name, folder = plan.space.split or plan.space.task, Folder(plan.data)
    if not plan.view.held_out:
        raise StudyError(
            f"study {plan.name!r} has no held-out set: no {plan.view.by} of its split manifest {name!r} was"
            " put aside; judge its champion on other shards by `raysearch evaluate`"
        )
    split_manifest = read_split_manifest(folder, name, plan.fingerprint)
    if set(split_manifest.held_out) != set(plan.view.held_out):
        raise StudyError(
            f"split manifest {name!r} of {plan.data} seals other groups now than when study {plan.name!r}"
            " began; restore it from a copy"
        )
    groups = np.unique(load_rows(plan.data, View(plan.view.task)).groups(plan.view.by))
    seen = tuple(groups[~np.isin(groups, split_manifest.held_out)].tolist())
    view = View(plan.view.task, plan.view.by, seen)
    return HeldOutSet(name, split_manifest, view, plan.view, tuple(test_set_accesses(folder, name)))


def reject_second(found: HeldOutSet, opening: TestSetAccess) -> None:
    """StudyError where the study opened its set with another champion: that one was seen."""
    own = [one for one in found.earlier if one.identity == opening.identity]
    other = next((one for one in own if not one.same_champion(opening)), None)
    if other is not None:
        raise StudyError(
            f"the held-out set of {opening.study!r} was opened on {other.at} with {other.champion}:"
            f" {_isolated(other, opening)}, and what is chosen after a look is not tested by it;"
            " select that champion again, or judge this one on other patients by `raysearch"
            " evaluate`"
        )


def _isolated(other: TestSetAccess, now: TestSetAccess) -> str:
    """What is not the same of the two."""
    if other.champion != now.champion:
        return f"{now.champion} is another champion"
    before, after = other.judged, now.judged
    names = sorted({*before, *after})
    changed = [name for name in names if before.get(name) != after.get(name)]
    return f"another {changed[0].replace('_', ' ')} is locked now"


@dataclass(frozen=True)
class Judged:
    """What came of it: the rows, what the model gave them, and what is kept about it."""

    patches: Patches
    scored: Scored
    about: About


def open_held_out(
    folder: StudyFolder, plan: Plan, history: History, model: Model, progress: Progress
) -> Judged:
    """Judge `model`, the locked champion of the study in `folder`, by its held-out groups.

    The opening is written down before anything is seen. StudyError where nothing is held-out or
    locked, or the set was opened with another champion.
    """
    if history.champion is None or not history.locked:
        raise StudyError(
            f"study {plan.name!r} has no locked champion; let it end, or choose one by `raysearch"
            " select`"
        )
    opening = TestSetAccess.now(plan.name, plan.identity, history.champion, history.locked)
    found = held_out_set(plan)
    reject_second(found, opening)
    record_test_set_access(opening, Folder(plan.data), found.name)
    patches = load_patches(plan.data, view=found.view)
    probabilities = score(model, patches.pixels, progress=progress)
    scored = Scored(
        *(patches.labels, probabilities, patches.patients),
        *(model.recipe.class_names, model.recipe.threshold),
    )
    mine = sum(one.identity == plan.identity for one in found.earlier)
    about = About(
        name=HELD_OUT,
        data=plan.data,
        fingerprint=plan.fingerprint,
        model=model.name,
        trial=history.champion,
        seed=model.recipe.seed,
        at=opening.at,
        class_names=model.recipe.class_names,
        threshold=model.recipe.threshold,
        opening={"by_this_study": mine + 1, "by_all": len(found.earlier) + 1},
        notes=_notes(plan, found, patches),
        in_context=_in_context(folder, plan, history, patches, scored),
    )
    keep(folder, about, patches, scored)
    return Judged(patches, scored, about)


def _in_context(
    folder: StudyFolder, plan: Plan, history: History, patches: Patches, scored: Scored
) -> Interval | None:
    """The AUROC with what those near each patch say: how much they count, the folds told."""
    champion = history.trials[history.champion or ""]
    own = calibrated_scores(folder, plan, champion, history.locked)
    near = auroc_in_context(own, plan)
    return None if near is None else auroc_by_context(near.context, patches, scored)


def _notes(plan: Plan, found: HeldOutSet, patches: Patches) -> tuple[str, ...]:
    """What of the held-out set is in what was learned from, too."""
    notes = []
    learned = load_rows(plan.data, found.learned)
    both = len(np.intersect1d(learned.patients, patches.patients))
    if both:
        notes.append(f"{both:,} patients of the held-out set were learned from, too: a leak")
    same = np.isin(load_hashes(plan.data, found.view), load_hashes(plan.data, found.learned))
    if same.any():
        notes.append(
            f"{int(same.sum()):,} patches of the held-out set have the very pixels of others that"
            " were learned from"
        )
    return tuple(notes)
