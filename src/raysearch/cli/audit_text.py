"""Formats an audit as tables for the terminal and as a record for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from raysearch.data.audit.findings import ERROR, INFO, WARNING, Finding, has_errors
from raysearch.data.audit.row_statistics import ColumnCounts
from raysearch.data.audit.shard_audit import Audit, DuplicateGroup
from raysearch.data.audit.split_integrity import VERIFIED

STYLES = {ERROR: "bold red", WARNING: "yellow", INFO: "cyan"}


def audit_tables(audit: Audit, findings: Sequence[Finding]) -> list[Table]:
    """Return a table of the set's properties and a table of the findings."""
    title = f"Inspected {escape(audit.shards.folder.address)}, task {audit.shards.task}"
    properties = Table(title=title, title_justify="left", show_header=False)
    for name, text in _properties(audit).items():
        properties.add_row(name, escape(text))
    findings_table = Table(
        "severity", "finding", "what to do", title="Findings", title_justify="left"
    )
    for finding in findings:
        style = STYLES[finding.severity]
        text = f"{escape(finding.title)}\n[dim]{escape(finding.explanation)}[/]"
        findings_table.add_row(
            f"[{style}]{finding.severity}[/]", text, escape(finding.advice), end_section=True
        )
    return [properties, findings_table]


def _properties(audit: Audit) -> dict[str, str]:
    counts = zip(audit.rows.class_names, audit.class_counts, strict=True)
    num_rows = len(audit.rows.labels)
    class_texts = [f"{count:,} {name} ({count / max(num_rows, 1):.0%})" for name, count in counts]
    num_surplus = sum(len(group.rows) - 1 for group in audit.exact_duplicates)
    manifests = [
        f"{check.name} ({VERIFIED if check.status == VERIFIED else 'has errors'})"
        for check in audit.split_manifests
    ]
    return {
        "patches": f"{num_rows:,}: {', '.join(class_texts)}",
        "size": f"{audit.size_text}; {audit.shards.manifest.rejected:,} rejected",
        **{f"by {column.name}": _column_text(column) for column in audit.columns},
        "duplicates": f"{len(audit.exact_duplicates):,} groups, {num_surplus:,} surplus patches;"
        f" near duplicates: {len(audit.near_duplicates):,} groups",
        "color model": _leakage_gap_text(audit),
        "split manifests": ", ".join(manifests) or "none yet",
    }


def _column_text(column: ColumnCounts) -> str:
    median = sorted(column.sizes.tolist())[len(column.sizes) // 2]
    missing = f"; {column.num_missing:,} rows without a value" if column.num_missing else ""
    return (
        f"{len(column.sizes):,}, with {column.sizes[-1]:,} to {column.sizes[0]:,} rows,"
        f" median {median:,}{missing}"
    )


def _leakage_gap_text(audit: Audit) -> str:
    result = audit.leakage_gap
    random_auroc, grouped_auroc, gap = result.random_auroc, result.grouped_auroc, result.gap
    if random_auroc is None or grouped_auroc is None or gap is None:
        return f"not measured: {result.undefined_reason}"
    return (
        f"AUROC {random_auroc:.3f} with random folds, {grouped_auroc:.3f} with folds by patient,"
        f" gap {gap:+.3f} ({result.num_folds} folds of {result.num_rows:,} rows)"
    )


@dataclass(frozen=True)
class ColumnRecord:
    """A column in the JSON output; `largest` maps a value to its number of rows of each class."""

    values: int
    missing: int
    largest: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class FindingRecord:
    """A finding in the JSON output, with the files of each case."""

    key: str
    severity: str
    title: str
    explanation: str
    advice: str
    count: int
    details: tuple[str, ...]
    files: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class DuplicateRecord:
    """A group of duplicates in the JSON output; `split_manifests` maps a name to its two sides."""

    files: tuple[str, ...]
    kind: str
    single_color: bool
    patients: tuple[str, ...]
    labels: tuple[str, ...]
    official_splits: tuple[str, ...]
    split_manifests: dict[str, str]


@dataclass(frozen=True)
class ColorModelRecord:
    """The scores of the color model in the JSON output."""

    random: float | None
    by_patient: float | None
    gap: float | None
    folds: int
    rows: int
    reason: str


@dataclass(frozen=True)
class SplitManifestRecord:
    """The result of verifying a split manifest in the JSON output."""

    error: str
    leaks: tuple[str, ...]


@dataclass(frozen=True)
class AuditRecord:
    """The JSON output of `raysearch inspect`; rows are identified by their files."""

    data: str
    fingerprint: str
    task: str
    has_errors: bool
    rows: int
    classes: dict[str, int]
    shape: tuple[int, int, int]
    resize_modes: dict[str, int]
    rejected: int
    columns: dict[str, ColumnRecord]
    findings: tuple[FindingRecord, ...]
    outliers: dict[str, tuple[str, ...]]
    duplicates: tuple[DuplicateRecord, ...]
    near_duplicates: tuple[DuplicateRecord, ...]
    color_model: ColorModelRecord
    split_manifests: dict[str, SplitManifestRecord]


def audit_record(audit: Audit, findings: Sequence[Finding]) -> AuditRecord:
    """Return the whole audit as a record for JSON."""
    manifest, gap = audit.shards.manifest, audit.leakage_gap
    return AuditRecord(
        data=audit.shards.folder.address,
        fingerprint=audit.rows.fingerprint,
        task=audit.shards.task,
        has_errors=has_errors(findings),
        rows=len(audit.rows.labels),
        classes=dict(zip(audit.rows.class_names, audit.class_counts, strict=True)),
        shape=manifest.shape,
        resize_modes=dict(manifest.resize_modes),
        rejected=manifest.rejected,
        columns={
            column.name: ColumnRecord(
                len(column.sizes),
                column.num_missing,
                {value.name: value.by_class for value in column.largest},
            )
            for column in audit.columns
        },
        findings=tuple(_finding_record(audit, finding) for finding in findings),
        outliers={
            outliers.kind: _file_names(audit, outliers.rows.tolist()) for outliers in audit.outliers
        },
        duplicates=tuple(_duplicate_record(audit, group) for group in audit.exact_duplicates),
        near_duplicates=tuple(_duplicate_record(audit, group) for group in audit.near_duplicates),
        color_model=ColorModelRecord(
            gap.random_auroc, gap.grouped_auroc, gap.gap, gap.num_folds, gap.num_rows, gap.reason
        ),
        split_manifests={
            check.name: SplitManifestRecord(check.error, check.leaks)
            for check in audit.split_manifests
        },
    )


def _finding_record(audit: Audit, finding: Finding) -> FindingRecord:
    return FindingRecord(
        finding.key,
        finding.severity,
        finding.title,
        finding.explanation,
        finding.advice,
        finding.count,
        finding.details,
        tuple(_file_names(audit, rows) for rows in finding.groups),
    )


def _duplicate_record(audit: Audit, group: DuplicateGroup) -> DuplicateRecord:
    return DuplicateRecord(
        _file_names(audit, group.rows),
        group.kind,
        group.single_color,
        group.patients,
        group.class_names,
        group.official_splits,
        {crossing.split_manifest: crossing.sides for crossing in group.crossings},
    )


def _file_names(audit: Audit, rows: Sequence[int]) -> tuple[str, ...]:
    return tuple(str(audit.sources.files[row]) for row in rows)
