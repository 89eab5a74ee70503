"""Collects what the report of a study shows: its selection and the evaluations of its champion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from raysearch.champion.stored_champion import champion_of, champion_scores
from raysearch.config.custom_code import load_metrics
from raysearch.data.files import Folder
from raysearch.data.pseudonyms import last_part
from raysearch.data.shards.rows import load_rows
from raysearch.data.shards.shard_manifest import Manifest, read_manifest
from raysearch.errors import UserError
from raysearch.metrics.calibration import Reliability, apply_temperature, reliability
from raysearch.metrics.evaluation import Evaluation, ScoredRows, evaluate_predictions
from raysearch.metrics.interval import Interval
from raysearch.metrics.plausibility import (
    PlausibilityNote,
    check_baseline,
    check_reference_result,
    check_row_counts,
)
from raysearch.metrics.row_units import singular
from raysearch.reports.answer_tables import Answers, study_answers
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
HELD_OUT_TITLE = "held-out test set"
OUT_OF_FOLD_TEXT = (
    "Each {row} is scored by the model of the fold that did not train on its patient, with the"
    " decision rule of the champion. The champion was selected, and its temperature and threshold"
    " were fitted, on the same patients: these results are optimistic."
)


@dataclass(frozen=True)
class EvaluatedSet:
    """A set that a model was evaluated on.

    Attributes:
        name: The name of the set.
        text: What was evaluated, and how, in sentences.
        scored: The rows with their labels and probabilities.
        evaluation: Their evaluation.
        notes: What limits the validity of the result.
        is_calibrated: Whether the probabilities are known to be after temperature scaling.
        uncalibrated: The reliability diagram before temperature scaling; None if it is unknown.
        smoothed_auroc: The AUROC after neighbor smoothing; None if positions are unknown.
        record: The stored record of a test set; None for other sets.
    """

    name: str
    text: str
    scored: ScoredRows
    evaluation: Evaluation
    notes: tuple[PlausibilityNote, ...]
    is_calibrated: bool
    uncalibrated: Reliability | None = None
    smoothed_auroc: Interval | None = None
    record: EvaluationRecord | None = None

    @property
    def support(self) -> str:
        """The numbers of rows and patients."""
        evaluation = self.evaluation
        return f"{evaluation.rows:,} {evaluation.unit} of {evaluation.patients:,} patients"


@dataclass(frozen=True)
class StudyReport:
    """The content of the report of a study with a champion.

    Attributes:
        plan: The plan of the study.
        history: Its trials.
        champion: The trial of the champion.
        decision: The decision rule of the champion.
        selection: The ranking of the finished trials.
        out_of_fold: The evaluation on the study's own folds.
        held_out: The evaluation on the held-out test set; None before it.
        external: The evaluations on external test sets.
        rows: Index of each out-of-fold row among the study's rows, shape (N,).
        slides: Slide of each out-of-fold patch, shape (N,); None if a position is unknown.
        manifest: The manifest of the shards; None if they are gone.
        notes: What the report leaves out.
        answers: The best trial of each value of a choice, by the name of the choice.
    """

    plan: Plan
    history: History
    champion: Trial
    decision: ChampionDecision
    selection: Selection
    out_of_fold: EvaluatedSet
    held_out: EvaluatedSet | None
    external: tuple[EvaluatedSet, ...]
    rows: NDArray[np.int64]
    slides: NDArray[np.str_] | None
    manifest: Manifest | None
    notes: tuple[str, ...] = ()
    answers: Answers = field(default_factory=dict)

    @property
    def sets(self) -> tuple[EvaluatedSet, ...]:
        """All evaluated sets: out of fold, held-out test set, external test sets."""
        held_out = () if self.held_out is None else (self.held_out,)
        return (self.out_of_fold, *held_out, *self.external)


def study_report(folder: StudyFolder) -> StudyReport:
    """Collect the report of the study in `folder`.

    Raises:
        StudyError: If the study has no champion.
    """
    study = load_study(folder)
    plan, history = study.plan, study.history
    plan.require_metrics()
    champion, decision = champion_of(plan, history)
    scores = champion_scores(folder, plan, champion, decision.seed)
    manifest = _read_manifest_if_present(plan.data)
    source_format = manifest.format if manifest else ""
    held_out, external, notes = None, [], []
    for record in read_evaluations(folder):
        if (record.trial, record.repeat_seed) == (champion.id, decision.seed):
            evaluated = _evaluate_test_set(folder, record, plan, source_format)
            if record.name == HELD_OUT:
                held_out = evaluated
            else:
                external.append(evaluated)
        else:
            notes.append(
                f"The evaluation of {record.name} is not shown: its model, {record.model}, is no"
                " longer the champion"
            )
    answers, answer_notes = study_answers(folder, plan, history)
    return StudyReport(
        plan=plan,
        history=history,
        answers=answers,
        champion=champion,
        decision=decision,
        selection=select(folder, plan, history, decision.margin),
        out_of_fold=_evaluate_out_of_fold(plan, decision, scores, source_format),
        held_out=held_out,
        external=tuple(external),
        rows=scores.rows,
        slides=_slides(plan, scores),
        manifest=manifest,
        notes=(*notes, *answer_notes),
    )


def evaluate_set(
    name: str,
    text: str,
    scored: ScoredRows,
    notes: Sequence[str] = (),
    *,
    is_calibrated: bool = False,
) -> EvaluatedSet:
    """Evaluate scored rows that belong to no study.

    Args:
        name: The name of the set.
        text: What was evaluated, and how.
        scored: The rows with their labels and probabilities.
        notes: Notes to show before those of the plausibility checks.
        is_calibrated: Whether the probabilities are known to be after temperature scaling.
    """
    evaluation = evaluate_predictions(scored)
    all_notes = (*map(PlausibilityNote, notes), *_check_plausibility(evaluation, ""))
    return EvaluatedSet(name, text, scored, evaluation, all_notes, is_calibrated)


def _evaluate_out_of_fold(
    plan: Plan, decision: ChampionDecision, scores: OutOfFold, source_format: str
) -> EvaluatedSet:
    probabilities = apply_temperature(scores.probabilities, decision.temperature)
    scored = ScoredRows(
        scores.labels,
        probabilities,
        scores.patients,
        plan.class_names,
        decision.threshold,
        plan.unit,
    )
    custom = load_metrics(plan.space.custom_metrics)
    evaluation = evaluate_predictions(scored, scores.folds, custom=custom)
    return EvaluatedSet(
        OUT_OF_FOLD,
        OUT_OF_FOLD_TEXT.format(row=singular(plan.unit)),
        scored,
        evaluation,
        _check_plausibility(evaluation, source_format),
        is_calibrated=True,
        uncalibrated=reliability(scores.labels, scores.probabilities),
        smoothed_auroc=_smoothed_auroc(plan, replace(scores, probabilities=probabilities)),
    )


def _smoothed_auroc(plan: Plan, scores: OutOfFold) -> Interval | None:
    """Return the AUROC after neighbor smoothing; None if it is undefined or the shards are gone."""
    try:
        smoothed = neighbor_smoothed_auroc(scores, plan)
    except UserError:
        return None
    return None if smoothed is None else smoothed.auroc


def _evaluate_test_set(
    folder: StudyFolder, record: EvaluationRecord, plan: Plan, source_format: str
) -> EvaluatedSet:
    scored = read_evaluation_scores(folder, record, plan.unit)
    custom = load_metrics(plan.space.custom_metrics)
    evaluation = evaluate_predictions(scored, custom=custom)
    evaluated = f"evaluated on {record.time} with {record.model}."
    if record.accesses is not None:
        text = (
            f"The held-out test set, {evaluated} Accesses: {record.accesses.by_study} by this"
            f" study, {record.accesses.total} in total."
        )
    else:
        text = f"The external test set {last_part(record.data)}, {evaluated}"
    name = HELD_OUT_TITLE if record.name == HELD_OUT else record.name
    if record.name != HELD_OUT:
        manifest = _read_manifest_if_present(record.data)
        source_format = manifest.format if manifest else ""
    plausibility = _check_plausibility(evaluation, source_format)
    return EvaluatedSet(
        name,
        text,
        scored,
        evaluation,
        (*map(PlausibilityNote, record.notes), *plausibility),
        is_calibrated=True,
        smoothed_auroc=record.smoothed_auroc,
        record=record,
    )


def _check_plausibility(evaluation: Evaluation, source_format: str) -> tuple[PlausibilityNote, ...]:
    return (
        *check_row_counts(evaluation),
        *check_reference_result(source_format, evaluation),
        *check_baseline(evaluation),
    )


def _read_manifest_if_present(data: str) -> Manifest | None:
    """Return the manifest of the shards at `data`; None if they are gone."""
    try:
        return read_manifest(Folder(data))
    except UserError:
        return None


def _slides(plan: Plan, scores: OutOfFold) -> NDArray[np.str_] | None:
    """Return the slide of each scored patch; None if the position of a patch is unknown."""
    try:
        rows = load_rows(plan.data, plan.view)
    except UserError:
        return None
    if patch_positions(rows, scores) is None:
        return None
    return np.asarray(rows.slides[scores.rows])


def repeats_text(report: StudyReport) -> str:
    """Return the champion's objectives in the repeats, and their failures; empty without any."""
    history = report.history
    values = ", ".join(f"{objective:.4f}" for objective in history.repeat_objectives)
    reasons = [
        reason
        for (trial, _seed), reason in history.repeat_failures.items()
        if trial == history.champion
    ]
    texts = [f"{report.plan.space.metric} {values}"] if values else []
    if reasons:
        texts.append(f"{len(reasons)} failed ({', '.join(sorted(set(reasons)))})")
    return "; ".join(texts)
