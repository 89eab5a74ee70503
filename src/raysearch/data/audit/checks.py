"""Turns the measurements of an audit into findings, and checks splits, labels and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from raysearch.data.audit.duplicate_checks import (
    REMOVE_WRONG_LABELS,
    check_duplicates,
    check_near_duplicates,
)
from raysearch.data.audit.findings import ERROR, INFO, SEVERITIES, WARNING, Finding
from raysearch.data.audit.outliers import ODD_STAIN
from raysearch.data.audit.row_statistics import MixedPatient
from raysearch.data.audit.shard_audit import Audit
from raysearch.data.quantities import quantity
from raysearch.data.shards.shard_manifest import Manifest

MAX_CLASS_RATIO, MAX_PATIENT_FRACTION = 10, 0.2
# With fewer patients than this, one of them always has a large fraction of the rows.
MIN_PATIENTS = 6
UNCHANGED_SIZE = "as is"
SPLIT_LEAKAGE = "The model is evaluated on patients that it was trained on"


def run_checks(audit: Audit) -> tuple[Finding, ...]:
    """Return all findings: errors first, then warnings, then information."""
    findings = [
        *check_duplicates(audit),
        *check_official_split(audit),
        *check_split_manifests(audit),
        *check_near_duplicates(audit),
        *check_labels(audit),
        *check_outliers(audit),
        *check_class_balance(audit),
        *check_patient_sizes(audit),
        *check_sharding(audit),
        *check_leakage_gap(audit),
    ]
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def check_official_split(audit: Audit) -> Iterator[Finding]:
    """Report patients in several parts of the official split."""
    rows = audit.rows
    assigned = rows.official_splits != ""
    pairs = zip(
        rows.patients[assigned].tolist(), rows.official_splits[assigned].tolist(), strict=True
    )
    num_parts = Counter(patient for patient, _part in set(pairs))
    patients = sorted(patient for patient, count in num_parts.items() if count > 1)
    if patients:
        yield Finding(
            "official-split-leaks",
            ERROR,
            f"{quantity(len(patients), 'patient')} in several parts of the official split",
            f"{SPLIT_LEAKAGE}.",
            "Do not use the official split; create a split by patient with raysearch split.",
            len(patients),
            details=tuple(patients),
        )


def check_split_manifests(audit: Audit) -> Iterator[Finding]:
    """Report split manifests that are invalid or have leaks, and the absence of any."""
    for check in audit.split_manifests:
        if check.error:
            yield Finding(
                "split-manifest-invalid",
                ERROR,
                f"Split manifest {check.name!r} is invalid",
                check.error,
                "Restore its two files, or create another with raysearch split --name. Scores of"
                " studies on it are not valid.",
            )
        if check.leaks:
            yield Finding(
                "split-manifest-leaks",
                ERROR,
                f"{quantity(len(check.leaks), 'patient')} on both sides of split manifest"
                f" {check.name!r}",
                f"{SPLIT_LEAKAGE}; --allow-leak permitted this.",
                "Split by patient, or report these patients with every score.",
                len(check.leaks),
                details=check.leaks,
            )
    if not audit.split_manifests:
        yield Finding(
            "no-split-manifest",
            INFO,
            "There is no split manifest",
            "A study creates one, grouped by patient, when it starts.",
            "Nothing, or run raysearch split to choose the test set and the folds.",
        )


def check_leakage_gap(audit: Audit) -> Iterator[Finding]:
    """Report the AUROC of a color model with a random split and with a split by patient."""
    result = audit.leakage_gap
    random_auroc, grouped_auroc, gap = result.random_auroc, result.grouped_auroc, result.gap
    if random_auroc is None or grouped_auroc is None or gap is None or result.single_row_patients:
        return
    yield Finding(
        "leakage-gap",
        INFO,
        f"A random split changes the AUROC of a color model by {gap:+.3f}",
        f"A model of 15 color statistics has AUROC {random_auroc:.3f} with {result.num_folds}"
        f" random folds and {grouped_auroc:.3f} with folds grouped by patient.",
        f"Split by patient. A network with AUROC {grouped_auroc:.3f} or less has learned no more"
        " than color.",
    )


def check_labels(audit: Audit) -> Iterator[Finding]:
    """Report positions and patients with contradictory labels.

    These are warnings: both labels of different pixels can be correct. Identical pixels with
    different labels are errors of `check_duplicates`.
    """
    conflicts, mixed = audit.position_conflicts, audit.mixed_patients
    if conflicts:
        yield Finding(
            "position-labels",
            WARNING,
            f"{quantity(len(conflicts), 'slide position')} with different labels",
            "One of the labels or one of the positions is wrong.",
            REMOVE_WRONG_LABELS,
            len(conflicts),
            conflicts,
        )
    if mixed:
        yield Finding(
            "patient-labels",
            WARNING,
            f"{quantity(len(mixed), 'patient')} with several labels, while nearly all have one",
            "Two patients may share a name, a file may have a wrong label, or both labels are"
            " correct.",
            "Look at their files and fix the names or labels that are wrong.",
            len(mixed),
            tuple(patient.rows for patient in mixed),
            tuple(_label_counts(patient, audit.rows.class_names) for patient in mixed),
        )


def _label_counts(patient: MixedPatient, class_names: Sequence[str]) -> str:
    counts = zip(class_names, patient.by_class, strict=True)
    return f"{patient.patient}: " + ", ".join(
        f"{count:,} {name}" for name, count in counts if count
    )


def check_outliers(audit: Audit) -> Iterator[Finding]:
    """Report each kind of outlier that has rows."""
    for outliers in audit.outliers:
        count = len(outliers.rows)
        adjective, advice = outliers.kind, "Look at them; remove patches that show no tissue."
        if outliers.kind == ODD_STAIN:
            adjective = "oddly stained"
            advice = "Look at them; remove pen, dust and blood, and use color augmentation."
        if count:
            yield Finding(
                outliers.kind.replace(" ", "-"),
                WARNING,
                f"{quantity(count, 'patch')} that {'is' if count == 1 else 'are'} {adjective}",
                f"Rule: {outliers.rule}.",
                advice,
                count,
                tuple((int(row),) for row in outliers.rows),
            )


def check_class_balance(audit: Audit) -> Iterator[Finding]:
    """Report classes without rows, or of very different sizes."""
    counts = audit.class_counts
    names_and_counts = zip(audit.rows.class_names, counts, strict=True)
    missing = [name for name, count in names_and_counts if not count]
    if missing:
        title = f"No row of class {', '.join(missing)}"
    elif max(counts) > MAX_CLASS_RATIO * min(counts):
        ratio = max(counts) / min(counts)
        title = f"The largest class has {ratio:.0f} times the rows of the smallest"
    else:
        return
    yield Finding(
        "class-imbalance",
        WARNING,
        title,
        "A model that always predicts the largest class has a high accuracy.",
        "Use AUROC, average precision or balanced accuracy as the objective.",
    )


def check_patient_sizes(audit: Audit) -> Iterator[Finding]:
    """Report a patient with a large fraction of all rows."""
    for column in audit.columns:
        if column.name != "patient" or len(column.sizes) < MIN_PATIENTS:
            continue
        fraction = float(column.sizes[0] / column.sizes.sum())
        if fraction > MAX_PATIENT_FRACTION:
            yield Finding(
                "large-patient",
                WARNING,
                f"Patient {column.largest[0].name} has {fraction:.0%} of all rows",
                "The score of a fold that validates on this patient says little about others.",
                "Report scores per patient as well.",
            )


def check_sharding(audit: Audit) -> Iterator[Finding]:
    """Report what the shard manifest records: warnings, rejected files, sizes, missing labels."""
    manifest = audit.shards.manifest
    yield from _sharding_warnings(manifest)
    if manifest.rejected:
        title = f"{manifest.rejected:,} of {manifest.files:,} files were rejected"
        advice = "See rejected.csv in the folder of the shards."
        explanation = "They have no row."
        yield Finding("rejected-files", WARNING, title, explanation, advice, manifest.rejected)
    resized = {
        mode: count for mode, count in manifest.resize_modes.items() if mode != UNCHANGED_SIZE
    }
    if resized:
        modes = ", ".join(f"{count:,} {mode}" for mode, count in resized.items())
        yield Finding(
            "resized-images",
            INFO,
            f"{quantity(sum(resized.values()), 'image')} had another size: {modes}",
            "Padding is white, at the right and the bottom. This audit ignores it.",
            "Nothing, or shard again with another --size.",
            sum(resized.values()),
        )
    num_unlabeled = manifest.rows - len(audit.rows.labels)
    if num_unlabeled:
        task = audit.shards.task
        title = f"{num_unlabeled:,} of {manifest.rows:,} rows have no label in task {task!r}"
        explanation, advice = (
            "They are not part of this task.",
            "Nothing, or choose another --task.",
        )
        yield Finding("unlabeled-rows", INFO, title, explanation, advice, num_unlabeled)


def _sharding_warnings(manifest: Manifest) -> Iterator[Finding]:
    for warning in manifest.warnings:
        explanation, _, advice = warning.rpartition("; ")
        title = "A warning of raysearch shard"
        explanation = _as_sentence(explanation or advice)
        yield Finding("sharding-warning", WARNING, title, explanation, _as_sentence(advice))


def _as_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
