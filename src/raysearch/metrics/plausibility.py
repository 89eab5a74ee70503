"""What in a table of results cannot be, or is too good to be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from raysearch.metrics.evaluation import Assessment

# What is reached with patients kept apart, by the format of the shards: metric, value, source.
ANCHORS: Mapping[str, tuple[str, float, str]] = {
    "idc": ("auroc", 0.951, "EfficientNet-B0, 5 folds by patient over 279 patients"),
    "pcam": ("auroc", 0.963, "a group-equivariant net on the official test set"),
    "breakhis": ("accuracy", 0.93, "the best of nine nets, 5 folds by patient"),
}


@dataclass(frozen=True)
class Note:
    """Something to be known before figures are believed; `wrong` where they cannot be."""

    text: str
    wrong: bool = False


def check_tables(found: Assessment) -> list[Note]:
    """Whether every table's support is the rows of its set, and coverage falls."""
    supports = {
        "the classes": sum(one.support for one in found.classes),
        "the confusion matrix": int(found.confusion.sum()),
        "the reliability": int(found.reliability.rows.sum()),
        **{
            f"the coverage at {one.confidence:g}": sum(some.of for some in one.classes)
            for one in found.coverage
        },
    }
    if found.by_patient is not None:
        supports["the patients"] = int(found.by_patient.table.rows.sum())
    notes = [
        Note(f"{name} count {count:,} rows, and the set has {found.rows:,}", wrong=True)
        for name, count in supports.items()
        if count != found.rows
    ]
    return notes + check_coverage([(one.confidence, one.coverage) for one in found.coverage])


def check_coverage(table: Sequence[tuple[float, float | None]]) -> list[Note]:
    """Coverage must not rise with the confidence that is asked for."""
    known = [(confidence, value) for confidence, value in table if value is not None]
    return [
        Note(
            f"at confidence {after:g} more is covered ({more:.3f}) than at {before:g}"
            f" ({less:.3f}), which cannot be",
            wrong=True,
        )
        for (before, less), (after, more) in pairwise(sorted(known))
        if more > less
    ]


def check_anchor(form: str, found: Assessment) -> list[Note]:
    """Whether shards of the format `form` are judged better than is reached honestly.

    Better is an interval that lies above it as a whole.
    """
    if form not in ANCHORS:
        return []
    metric, value, source = ANCHORS[form]
    own = found.metrics[metric]
    if own.low is None or own.low <= value:
        return []
    return [
        Note(
            f"{metric} {own} is above the {value:.3f} that is reached with patients kept apart"
            f" ({source}): look for a leak"
        )
    ]


def check_baseline(found: Assessment) -> list[Note]:
    """Whether who guesses the shares of the classes is as good by accuracy or F1."""
    notes = []
    for name in ("accuracy", "macro_f1"):
        own, other = found.metrics[name], found.baseline[name]
        if own.low is not None and other is not None and own.low <= other:
            notes.append(
                Note(f"{name} {own} is not shown to be above the {other:.4f} of who guesses")
            )
    return notes
