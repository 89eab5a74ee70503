"""Findings about labels, outliers and counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raysearch.data.audit.audit import Audit
from raysearch.data.audit.finding import NOTE, WARNING, Finding, counted
from raysearch.data.audit.label_conflicts import Mixed
from raysearch.data.audit.outliers import Outliers

# From this ratio of classes, and this share of rows, on it is told.
UNEVEN, LARGE_FRACTION = 10, 0.2
MIN_PATIENTS = 6  # of fewer, one always has a large share
ODD_STAIN = "odd stain"


def told_labels(audit: Audit) -> Iterator[Finding]:
    """Places and patients whose labels contradict one another.

    Warnings: where the pixels are the same, too, the duplicates say so; else both may be true.
    """
    if audit.conflicts:
        yield Finding(
            "places-labels",
            WARNING,
            f"{counted(len(audit.conflicts), 'place')} of a slide under different labels",
            "One label is wrong, or the place is.",
            "See which label is right, leave the other files out, and shard again.",
            len(audit.conflicts),
            audit.conflicts,
        )
    if audit.mixed:
        yield Finding(
            "patients-labels",
            WARNING,
            f"{counted(len(audit.mixed), 'patient')} under several labels, where nearly all have"
            " one",
            "Two patients share a name, or a file is labelled wrongly; or both labels are true.",
            "Look at their files, and mend what is wrong.",
            len(audit.mixed),
            tuple(one.rows for one in audit.mixed),
            tuple(_labels_of(one, audit.rows.class_names) for one in audit.mixed),
        )


def _labels_of(one: Mixed, names: Sequence[str]) -> str:
    counts = zip(names, one.by_class, strict=True)
    return f"{one.patient}: " + ", ".join(f"{count:,} {name}" for name, count in counts if count)


def told_outliers(outliers: Sequence[Outliers]) -> Iterator[Finding]:
    """Each kind of outlier that there is."""
    for one in outliers:
        count = len(one.rows)
        kind = "oddly stained" if one.kind == ODD_STAIN else one.kind
        advice = "Look at them; leave out what shows no tissue."
        if one.kind == ODD_STAIN:
            advice = "Look at them; leave out pen, dust and blood, and let training vary colours."
        if count:
            yield Finding(
                one.kind.replace(" ", "-"),
                WARNING,
                f"{counted(count, 'patch')} that {'is' if count == 1 else 'are'} {kind}",
                f"Rule: {one.rule}.",
                advice,
                count,
                tuple((int(row),) for row in one.rows),
            )


def told_balance(audit: Audit) -> Iterator[Finding]:
    """Classes and patients of very different sizes."""
    counts = audit.class_counts
    names = zip(audit.rows.class_names, counts, strict=True)
    missing = [name for name, count in names if not count]
    if missing or max(counts) > UNEVEN * min(counts):
        yield Finding(
            "imbalance",
            WARNING,
            f"No row of {', '.join(missing)}"
            if missing
            else f"The largest class has {max(counts) / min(counts):.0f} times the rows of the"
            " smallest",
            "Accuracy rewards a model that says the largest class alone.",
            "Search by AUROC, average precision or balanced accuracy.",
        )
    for column in audit.columns:
        fraction = float(column.sizes[0] / column.sizes.sum())
        many = len(column.sizes) >= MIN_PATIENTS
        if column.name == "patient" and many and fraction > LARGE_FRACTION:
            yield Finding(
                "large-patient",
                WARNING,
                f"Patient {column.largest[0].name} has {fraction:.0%} of all rows",
                "A fold that is judged by this patient says little about others.",
                "Report scores by patient, too.",
            )


def told_set(audit: Audit) -> Iterator[Finding]:
    """What the shards themselves say: warnings, rejected files, sizes, rows without a label."""
    manifest = audit.shards.manifest
    for warning in manifest.warnings:
        what, _, advice = warning.rpartition("; ")
        title = "A warning from when the images were sharded"
        yield Finding("set-warning", WARNING, title, _sentence(what or advice), _sentence(advice))
    if manifest.rejected:
        title = f"{manifest.rejected:,} of {manifest.files:,} files were rejected"
        advice = "See rejected.csv among the shards."
        yield Finding("rejected", WARNING, title, "No row has them.", advice, manifest.rejected)
    fitted = {how: count for how, count in manifest.fitted.items() if how != "as is"}
    if fitted:
        title = f"{counted(sum(fitted.values()), 'image')} had another size: " + ", ".join(
            f"{count:,} {how}" for how, count in fitted.items()
        )
        why = (
            "Padding is white, at the right and the bottom; here outliers and duplicates are judged"
            " without it."
        )
        advice = "Nothing, or shard again at another --size."
        yield Finding("fitted", NOTE, title, why, advice, sum(fitted.values()))
    unlabelled = manifest.rows - len(audit.rows.labels)
    if unlabelled:
        title = f"{unlabelled:,} of {manifest.rows:,} rows have no label in {audit.shards.task!r}"
        why, advice = "They are not part of this task.", "Nothing, or choose another --task."
        yield Finding("unlabelled", NOTE, title, why, advice, unlabelled)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
