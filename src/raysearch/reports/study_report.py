"""What a report of a study tells: how its champion was chosen, and how it did on each set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from raysearch.champion.stored_champion import champion_of, champion_scores
from raysearch.data.files import Folder
from raysearch.data.shards.rows import load_rows
from raysearch.data.shards.shard_manifest import Manifest, read_manifest
from raysearch.errors import StudyError, UserError
from raysearch.metrics.bootstrap import Interval
from raysearch.metrics.calibration import Reliability, apply_temperature, reliability
from raysearch.metrics.evaluation import Evaluation, ScoredRows, evaluate_predictions
from raysearch.metrics.plausibility import (
    PlausibilityNote,
    check_baseline,
    check_reference_result,
    check_row_counts,
)
from raysearch.search.journal.events import ChampionDecision
from raysearch.search.journal.history import History, Trial
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.fold_scores import OutOfFold
from raysearch.search.study.plan import Plan
from raysearch.search.study.stored_study import load_study
from raysearch.selection.pooled_scores import neighbor_smoothed_auroc, patch_positions
from raysearch.selection.selection import Selection, select
from raysearch.testing.test_results import (
    HELD_OUT,
    EvaluationRecord,
    read_evaluation_scores,
    read_evaluations,
)

OUT_OF_FOLD = "out of fold"


@dataclass(frozen=True)
class Set:
    """One set that the champion was judged on: its rows with their scores, and all said of them.

    `before` is the reliability without the temperature, and `in_context` the AUROC with what the
    patches near each one say, where they are known; `about` is None of the study's own folds.
    """

    name: str
    text: str
    scored: ScoredRows
    found: Evaluation
    notes: tuple[PlausibilityNote, ...]
    before: Reliability | None = None
    in_context: Interval | None = None
    about: EvaluationRecord | None = None


@dataclass(frozen=True)
class Report:
    """A study with a champion, as it is told; the first of `sets` is the study's own folds.

    Its patches are the `rows` (N,) of the study's view of its shards, on the `slides` (N,), where
    it is known of all where they lie. `manifest` is that of the shards, where they are still there.
    `notes` say what was left out.
    """

    plan: Plan
    history: History
    champion: Trial
    decision: ChampionDecision
    selection: Selection
    sets: tuple[Set, ...]
    rows: NDArray[np.int64]
    slides: NDArray[np.str_] | None
    manifest: Manifest | None
    notes: tuple[str, ...] = ()


def study_report(folder: StudyFolder) -> Report:
    """What is to be told of the study in `folder`; StudyError where it has no champion yet."""
    study = load_study(folder)
    plan, history = study.plan, study.history
    champion, decision = champion_of(plan, history)
    selection = select(folder, plan, history, decision.margin)
    raw = champion_scores(folder, plan, champion, decision.seed)
    manifest = _manifest(plan.data)
    form = manifest.format if manifest else ""
    sets = [_own(plan, decision, raw, form)]
    judged = read_evaluations(folder)
    mine = [one for one in judged if (one.trial, one.repeat_seed) == (champion.id, decision.seed)]
    sets += [_other(folder, about, form) for about in mine]
    notes = tuple(
        f"{one.name} was judged by {one.model}, which is the champion no more, and is left out"
        for one in judged
        if one not in mine
    )
    slides = _slides(plan, raw)
    return Report(
        *(plan, history, champion, decision, selection, tuple(sets), raw.rows, slides, manifest, notes)
    )





def _manifest(data: str) -> Manifest | None:
    """What the shards at `data` say of themselves; None where they have gone."""
    try:
        return read_manifest(Folder(data))
    except UserError:
        return None


def set_of(name: str, text: str, scored: ScoredRows, notes: Sequence[str] = ()) -> Set:
    """`scored` rows as a set of their own, of which `notes` are to be known, too."""
    found = evaluate_predictions(scored)
    return Set(name, text, scored, found, (*map(PlausibilityNote, notes), *_notes(found, "")))


def _own(plan: Plan, decision: ChampionDecision, raw: OutOfFold, form: str) -> Set:
    probabilities = apply_temperature(raw.probabilities, decision.temperature)
    scored = ScoredRows(
        *(raw.labels, probabilities, raw.patients),
        *(plan.class_names, decision.threshold),
    )
    found = evaluate_predictions(scored, raw.folds)
    text = (
        "Each patch by the model of the fold that did not learn from its patient, at the locked"
        " temperature and threshold. The champion was chosen by these very patients, and both were"
        " fitted to them, so that these figures flatter it."
    )
    before = reliability(raw.labels, raw.probabilities)
    near = _in_context(plan, replace(raw, probabilities=probabilities))
    return Set(OUT_OF_FOLD, text, scored, found, _notes(found, form), before, near)


def _in_context(plan: Plan, calibrated: OutOfFold) -> Interval | None:
    """None as well where the shards have gone, which alone know where the patches lie."""
    try:
        near = neighbor_smoothed_auroc(calibrated, plan)
    except UserError:
        return None
    return None if near is None else near.auroc


def _other(folder: StudyFolder, about: EvaluationRecord, form: str) -> Set:
    scored = read_evaluation_scores(folder, about)
    found = evaluate_predictions(scored)
    if about.accesses is not None:
        text = (
            f"The held-out test set, evaluated on {about.time} with {about.model}. Accesses:"
            f" {about.accesses.by_study} by this study, {about.accesses.total} in total."
        )
    else:
        text = (
            f"The external test set {about.data}, evaluated on {about.time} with {about.model}."
        )
    if about.name != HELD_OUT:
        manifest = _manifest(about.data)
        form = manifest.format if manifest else ""
    notes = (*(PlausibilityNote(one) for one in about.notes), *_notes(found, form))
    return Set(about.name, text, scored, found, notes, in_context=about.smoothed_auroc, about=about)


def _notes(found: Evaluation, form: str) -> tuple[PlausibilityNote, ...]:
    return (*check_row_counts(found), *check_reference_result(form, found), *check_baseline(found))


def _slides(plan: Plan, raw: OutOfFold) -> NDArray[np.str_] | None:
    """The slides of the judged patches, where it is known of each where it lies there."""
    try:
        rows = load_rows(plan.data, plan.view)
    except UserError:
        return None
    if patch_positions(rows, raw) is None:
        return None
    return np.asarray(rows.slides[raw.rows])


def fresh_text(report: Report) -> str:
    """The champion's objective with fresh seeds, and how often they failed; empty without any."""
    history = report.history
    values = ", ".join(f"{one:.4f}" for one in history.repeat_objectives)
    failed = [
        why for (trial, _), why in history.repeat_failures.items() if trial == history.champion
    ]
    told = [f"{report.plan.space.metric} {values}"] if values else []
    told += [f"{len(failed)} failed ({', '.join(sorted(set(failed)))})"] if failed else []
    return "; ".join(told)
