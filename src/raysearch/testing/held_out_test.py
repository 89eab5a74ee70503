"""Evaluates the champion of a study on its held-out test set, and logs every access to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raysearch.champion.stored_champion import calibrated_scores, champion_of
from raysearch.data.audit.train_test_overlap import matches_text, pixel_matches, read_origins
from raysearch.data.files import Folder
from raysearch.data.shards.patches import Patches, load_patches
from raysearch.data.shards.rows import View, load_rows
from raysearch.data.splits.access_log import (
    TestSetAccess,
    read_test_set_accesses,
    record_test_set_access,
)
from raysearch.data.splits.split_manifest import read_split_manifest
from raysearch.errors import StudyError
from raysearch.inference.model_loading import Model, ProgressCallback, predict_proba
from raysearch.inference.unfinished_scores import UnfinishedScores
from raysearch.metrics.evaluation import ScoredRows
from raysearch.metrics.interval import Interval
from raysearch.models import is_bag_shape
from raysearch.search.journal.events import ChampionDecision
from raysearch.search.journal.history import History, Trial
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan
from raysearch.selection.pooled_scores import neighbor_smoothed_auroc, smoothed_auroc
from raysearch.testing.test_results import (
    HELD_OUT,
    AccessCounts,
    EvaluationRecord,
    ScoredTestSet,
    read_evaluation,
    write_evaluation,
)


@dataclass(frozen=True)
class HeldOutTestSet:
    """The held-out test set of a study.

    Attributes:
        split_name: The name of the split manifest that defines it.
        view: Shows only the rows of the held-out groups.
        development_view: Shows the rows that the study sees.
        accesses: All earlier accesses, by any study.
    """

    split_name: str
    view: View
    development_view: View
    accesses: tuple[TestSetAccess, ...]


def held_out_test_set(plan: Plan) -> HeldOutTestSet:
    """Find the held-out test set of the study of `plan`.

    Raises:
        StudyError: If the study has none, or its split manifest was changed.
    """
    split_name, folder = plan.space.split or plan.space.task, Folder(plan.data)
    if not plan.view.held_out:
        raise StudyError(
            f"study {plan.name!r} has no held-out test set: its split manifest {split_name!r} holds"
            f" out no {plan.view.by}; evaluate its champion on other shards with `raysearch"
            " evaluate`"
        )
    split_manifest = read_split_manifest(folder, split_name, plan.fingerprint)
    if set(split_manifest.held_out) != set(plan.view.held_out):
        raise StudyError(
            f"split manifest {split_name!r} of {plan.data} holds out other groups than when study"
            f" {plan.name!r} started; restore it from a copy"
        )
    groups = np.unique(load_rows(plan.data, View(plan.view.task)).groups(plan.view.by))
    development = tuple(groups[~np.isin(groups, split_manifest.held_out)].tolist())
    view = View(plan.view.task, plan.view.by, development)
    accesses = tuple(read_test_set_accesses(folder, split_name))
    return HeldOutTestSet(split_name, view, plan.view, accesses)


def reject_other_champion(test_set: HeldOutTestSet, access: TestSetAccess) -> None:
    """Reject an access if the study evaluated another champion before.

    What is selected after a look at the test set is not tested by it.

    Raises:
        StudyError: If an earlier access of the study has another champion or decision rule.
    """
    for earlier in test_set.accesses:
        if earlier.identity != access.identity or earlier.same_champion(access):
            continue
        if earlier.champion != access.champion:
            reason = f"{access.champion} is another champion"
        else:
            field = access.changed_fields(earlier)[0].replace("_", " ")
            reason = f"the decision rule now has another {field}"
        raise StudyError(
            f"the held-out test set was evaluated by {access.study!r} on {earlier.time} with"
            f" {earlier.champion}: {reason}, and a champion selected after that is not tested by"
            " it; select the earlier champion again, or evaluate this one on other patients with"
            " `raysearch evaluate`"
        )


def stored_test(folder: StudyFolder, plan: Plan, history: History) -> EvaluationRecord | None:
    """Return the stored result of the champion on the held-out test set.

    Returns:
        The result; None if this champion, with this decision rule, was not evaluated, or the
        evaluation was interrupted.

    Raises:
        StudyError: If there is no champion, or the stored result is damaged.
    """
    champion, decision = champion_of(plan, history)
    current = TestSetAccess.now(plan.name, plan.identity, champion.id, decision)
    accesses = read_test_set_accesses(Folder(plan.data), plan.space.split or plan.space.task)
    times = {
        access.time
        for access in accesses
        if access.identity == plan.identity and access.same_champion(current)
    }
    if not times:
        return None
    record = read_evaluation(folder, HELD_OUT)
    is_current = record is not None and record.trial == champion.id and record.time in times
    return record if is_current else None


def score_held_out_set(
    folder: StudyFolder,
    plan: Plan,
    history: History,
    model: Model,
    on_progress: ProgressCallback,
) -> ScoredTestSet:
    """Evaluate the champion of a study on its held-out test set, and store the result.

    The access is logged before any row is read.

    Args:
        folder: The study's folder.
        plan: The study's plan.
        history: The study's history.
        model: The champion.
        on_progress: Called with the number of scored rows, and of all rows.

    Raises:
        StudyError: If there is no held-out test set or no champion, or the study evaluated another
            champion before.
    """
    champion, decision = champion_of(plan, history)
    access = TestSetAccess.now(plan.name, plan.identity, champion.id, decision)
    test_set = held_out_test_set(plan)
    reject_other_champion(test_set, access)
    record_test_set_access(access, Folder(plan.data), test_set.split_name)
    patches = load_patches(plan.data, view=test_set.view)
    unfinished = UnfinishedScores(model.content_hash, plan.fingerprint, test_set.view.key)
    probabilities = predict_proba(model, patches.inputs, on_progress, stored=unfinished)
    artifact = model.artifact
    scored = ScoredRows(
        patches.labels,
        probabilities,
        patches.patients,
        artifact.class_names,
        artifact.threshold,
        artifact.unit,
    )
    num_earlier = sum(earlier.identity == plan.identity for earlier in test_set.accesses)
    record = EvaluationRecord(
        name=HELD_OUT,
        data=plan.data,
        fingerprint=plan.fingerprint,
        model=model.name,
        trial=champion.id,
        time=access.time,
        class_names=artifact.class_names,
        threshold=artifact.threshold,
        accesses=AccessCounts(by_study=num_earlier + 1, total=len(test_set.accesses) + 1),
        notes=_leak_notes(plan, test_set, patches),
        repeat_seed=artifact.repeat_seed,
        smoothed_auroc=_smoothed_auroc(folder, plan, (champion, decision), patches, scored),
    )
    result = ScoredTestSet(patches, scored, record)
    write_evaluation(folder, result)
    unfinished.remove()
    return result


def _smoothed_auroc(
    folder: StudyFolder,
    plan: Plan,
    champion: tuple[Trial, ChampionDecision],
    patches: Patches,
    scored: ScoredRows,
) -> Interval | None:
    """The AUROC after smoothing over neighbors, as fitted on the out-of-fold predictions."""
    trial, decision = champion
    out_of_fold = calibrated_scores(folder, plan, trial, decision)
    fitted = neighbor_smoothed_auroc(out_of_fold, plan)
    return None if fitted is None else smoothed_auroc(fitted.smoothing, patches, scored)


def _leak_notes(plan: Plan, test_set: HeldOutTestSet, patches: Patches) -> tuple[str, ...]:
    """Report patients and pixels that are in the test set and in the development rows."""
    notes = []
    development = load_rows(plan.data, test_set.development_view)
    num_patients = len(np.intersect1d(development.patients, patches.patients))
    if num_patients:
        notes.append(
            f"leakage: {num_patients:,} patients of the held-out test set are also in the"
            " development data"
        )
    matches = pixel_matches(
        read_origins(plan.data, test_set.view), read_origins(plan.data, test_set.development_view)
    )
    if matches:
        content = "features" if is_bag_shape(plan.shape) else "pixels"
        notes.append(
            f"leakage: {len(matches):,} {plan.unit} of the held-out test set have the same"
            f" {content} as {plan.unit} of the development data ({matches_text(matches)})"
        )
    return tuple(notes)
