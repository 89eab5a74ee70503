"""Evaluates a champion on a test set: predictions, metrics, storage, and the tracking store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from raysearch.config.custom_code import load_metrics
from raysearch.data.step_progress import StepCallback, StepProgress
from raysearch.inference.model_loading import Model, ProgressCallback
from raysearch.metrics.evaluation import Evaluation, ScoredRows, evaluate_predictions
from raysearch.metrics.row_units import PATCHES
from raysearch.search.journal.history import History
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan
from raysearch.search.study.stored_study import read_plan
from raysearch.search.tracking.parent_run import RunContent, log_to_parent_run
from raysearch.search.tracking.tracking_store import default_store
from raysearch.testing.external_test_set import ExternalTestSet, score_external_test_set
from raysearch.testing.held_out_test import score_held_out_set, stored_test
from raysearch.testing.test_results import (
    EvaluationRecord,
    read_evaluation_scores,
    write_evaluation,
)

# The time that the bootstrap takes is not known before.
COMPUTING = StepProgress("Computing the metrics", 0, 0, PATCHES)


@dataclass(frozen=True)
class EvaluationOutcome:
    """The result of a champion on a test set.

    Attributes:
        record: What was evaluated.
        scored: The predictions.
        evaluation: The metrics.
        tracking_error: Why the result is not in the tracking store; None if it is, or if no study
            stores it.
        is_stored: Whether the result is the stored one of an earlier evaluation.
    """

    record: EvaluationRecord
    scored: ScoredRows
    evaluation: Evaluation
    tracking_error: Exception | None
    is_stored: bool = False


def evaluate_held_out(
    folder: StudyFolder,
    plan: Plan,
    history: History,
    model: Model,
    on_progress: StepCallback,
) -> EvaluationOutcome:
    """Evaluate the champion of a study on its held-out test set; see `score_held_out_set`."""
    plan.require_metrics()
    test_set = score_held_out_set(folder, plan, history, model, _scoring(model, on_progress))
    on_progress(COMPUTING)
    evaluation = _evaluate(test_set.scored, plan)
    tracking_error = _send_to_tracking(plan, test_set.record, evaluation)
    return EvaluationOutcome(test_set.record, test_set.scored, evaluation, tracking_error)


def stored_held_out(folder: StudyFolder, plan: Plan, history: History) -> EvaluationOutcome | None:
    """Return the stored result of the champion on the held-out test set; see `stored_test`.

    The test set is not read. The result is sent to the tracking store, which may lack it; sending
    it twice changes nothing.
    """
    record = stored_test(folder, plan, history)
    if record is None:
        return None
    plan.require_metrics()
    scored = read_evaluation_scores(folder, record, plan.unit)
    evaluation = _evaluate(scored, plan)
    tracking_error = _send_to_tracking(plan, record, evaluation)
    return EvaluationOutcome(record, scored, evaluation, tracking_error, is_stored=True)


def evaluate_external(
    model: Model,
    folder: StudyFolder | None,
    external: ExternalTestSet,
    on_progress: StepCallback,
) -> EvaluationOutcome:
    """Evaluate a model on an external test set; see `score_external_test_set`.

    Args:
        model: The model.
        folder: The folder of the study whose champion the model is, which stores the result. If
            None, nothing is stored.
        external: The test set.
        on_progress: Called with the number of scored rows, then when metrics are computed.
    """
    plan = None if folder is None else read_plan(folder)
    if plan is not None:
        plan.require_metrics()
    test_set = score_external_test_set(model, external, _scoring(model, on_progress))
    if folder is not None:
        write_evaluation(folder, test_set)
    on_progress(COMPUTING)
    evaluation = _evaluate(test_set.scored, plan)
    tracking_error = None
    if plan is not None:
        tracking_error = _send_to_tracking(plan, test_set.record, evaluation)
    return EvaluationOutcome(test_set.record, test_set.scored, evaluation, tracking_error)


def _evaluate(scored: ScoredRows, plan: Plan | None) -> Evaluation:
    """Evaluate scored rows, also by the metrics of the user's that a study has."""
    custom = () if plan is None else plan.space.custom_metrics
    return evaluate_predictions(scored, custom=load_metrics(custom))


def _scoring(model: Model, on_progress: StepCallback) -> ProgressCallback:
    unit = model.artifact.unit
    return lambda done, total: on_progress(StepProgress("Scoring", done, total, unit))


def _send_to_tracking(
    plan: Plan, record: EvaluationRecord, evaluation: Evaluation
) -> Exception | None:
    """Add the result to the study's run; return why that failed."""
    prefix = record.name if record.accesses is None else "test"
    metrics = {
        f"{prefix}_{name}": interval.value
        for name, interval in evaluation.metrics.items()
        if interval.value is not None
    }
    if record.smoothed_auroc is not None and record.smoothed_auroc.value is not None:
        metrics[f"{prefix}_smoothed_auroc"] = record.smoothed_auroc.value
    tags = {f"{prefix}_trial": record.trial, f"{prefix}_time": record.time}
    if record.accesses is not None:
        tags["test_accesses"] = str(record.accesses.by_study)
    files = {f"{prefix}.json": _metrics_file(evaluation)}
    time_ms = int(datetime.fromisoformat(record.time).timestamp() * 1000)
    return log_to_parent_run(plan, default_store(), RunContent(metrics, tags, files, time_ms))


def _metrics_file(evaluation: Evaluation) -> bytes:
    """The metrics as a table, in the JSON layout of MLflow's tables."""
    rows = [
        [name, interval.value, interval.low, interval.high, evaluation.baseline[name]]
        for name, interval in evaluation.metrics.items()
    ]
    columns = ["metric", "value", "low", "high", "class_prior_baseline"]
    return json.dumps({"columns": columns, "data": rows}).encode()
