"""Checks an evaluation for results that are impossible, or too good to be plausible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from raysearch.metrics.evaluation import Evaluation


@dataclass(frozen=True)
class ReferenceResult:
    """The best known value of a metric with folds grouped by patient, and its source."""

    metric: str
    value: float
    source: str


# By the format of the shards.
REFERENCE_RESULTS: Mapping[str, ReferenceResult] = {
    "idc": ReferenceResult("auroc", 0.951, "EfficientNet-B0, 5 folds by patient over 279 patients"),
    "pcam": ReferenceResult("auroc", 0.963, "a group-equivariant network on the official test set"),
    "breakhis": ReferenceResult("accuracy", 0.93, "the best of nine networks, 5 folds by patient"),
}


@dataclass(frozen=True)
class PlausibilityNote:
    """A note on results; `is_error` if they are impossible, not only remarkable."""

    text: str
    is_error: bool = False


def check_row_counts(evaluation: Evaluation) -> list[PlausibilityNote]:
    """Check that every table counts all rows, and that coverage falls with confidence."""
    row_counts = {
        "the classes": sum(report.support for report in evaluation.classes),
        "the confusion matrix": int(evaluation.confusion.sum()),
        "the reliability diagram": int(evaluation.reliability.rows.sum()),
        **{
            f"the coverage at {selective.confidence:g}": sum(
                by_class.total_rows for by_class in selective.classes
            )
            for selective in evaluation.coverage
        },
    }
    if evaluation.patient_level is not None:
        row_counts["the patients"] = int(evaluation.patient_level.table.rows.sum())
    notes = [
        PlausibilityNote(
            f"{name} count {count:,} rows, but the set has {evaluation.rows:,}", is_error=True
        )
        for name, count in row_counts.items()
        if count != evaluation.rows
    ]
    table = [(selective.confidence, selective.coverage) for selective in evaluation.coverage]
    return notes + check_coverage(table)


def check_coverage(table: Sequence[tuple[float, float | None]]) -> list[PlausibilityNote]:
    """Check that coverage does not rise with the confidence; `table` has (confidence, coverage)."""
    defined = [(confidence, coverage) for confidence, coverage in table if coverage is not None]
    return [
        PlausibilityNote(
            f"coverage rises from {low_coverage:.3f} at confidence {low:g} to"
            f" {high_coverage:.3f} at {high:g}, which is impossible",
            is_error=True,
        )
        for (low, low_coverage), (high, high_coverage) in pairwise(sorted(defined))
        if high_coverage > low_coverage
    ]


def check_reference_result(source_format: str, evaluation: Evaluation) -> list[PlausibilityNote]:
    """Check whether the result is significantly better than the best known one for the data.

    That is so if the lower bound of the interval lies above the reference value.

    Args:
        source_format: The format of the source of the shards, such as "idc".
        evaluation: The evaluation on these shards.
    """
    if source_format not in REFERENCE_RESULTS:
        return []
    reference = REFERENCE_RESULTS[source_format]
    interval = evaluation.metrics[reference.metric]
    if interval.low is None or interval.low <= reference.value:
        return []
    return [
        PlausibilityNote(
            f"{reference.metric} {interval} is above {reference.value:.3f}, the best known result"
            f" with a split by patient ({reference.source}): look for leakage"
        )
    ]


def check_baseline(evaluation: Evaluation) -> list[PlausibilityNote]:
    """Check whether accuracy and F1 are significantly better than the class-prior baseline."""
    notes = []
    for name in ("accuracy", "macro_f1"):
        interval, baseline = evaluation.metrics[name], evaluation.baseline[name]
        if interval.low is not None and baseline is not None and interval.low <= baseline:
            notes.append(
                PlausibilityNote(
                    f"{name} {interval} is not significantly above the class-prior baseline,"
                    f" {baseline:.4f}"
                )
            )
    return notes
