"""An audit for a terminal and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from raysearch.data.audit.audit import Audit, Judged
from raysearch.data.audit.finding import DISHONEST, WARNING, Finding
from raysearch.data.audit.split_integrity import Checked

STYLES = {"dishonest": "bold red", "warning": "yellow", "note": "cyan"}


def decision(findings: Sequence[Finding]) -> str:
    """What the findings come to, in a sentence."""
    counts = [
        sum(one.severity == severity for one in findings) for severity in (DISHONEST, WARNING)
    ]
    if counts[0]:
        some = "1 finding" if counts[0] == 1 else f"{counts[0]} findings"
        return f"{some} would make a result dishonest: see what to do about each."
    if counts[1]:
        return "Nothing here would make a result dishonest; look at the warnings."
    return "Nothing here would make a result dishonest."


def size_text(audit: Audit) -> str:
    """The size of the patches, and how they came to it."""
    manifest = audit.shards.manifest
    fits = ", ".join(f"{count:,} {how}" for how, count in manifest.fitted.items())
    return f"{manifest.shape[1]}x{manifest.shape[0]}: {fits}"


def split_manifest_state(one: Checked) -> tuple[str, ...]:
    """A split manifest's name, task, column, held-out groups, schemes and state."""
    if one.split_manifest is None:
        return (one.name, "", "", "", "", one.error)
    state = one.error or (f"{len(one.leaks):,} patients on both sides" if one.leaks else "verified")
    schemes = ", ".join(one.split_manifest.schemes)
    return (
        one.name,
        one.split_manifest.task,
        one.split_manifest.by,
        f"{len(one.split_manifest.held_out):,}",
        schemes,
        state,
    )


def tables(audit: Audit, findings: Sequence[Finding]) -> list[Table]:
    """What the terminal shows: the set, and the findings with what to do about each."""
    title = f"Inspected {escape(audit.shards.folder.address)}, task {audit.shards.task}"
    head = Table(title=title, title_justify="left", show_header=False)
    for name, text in _facts(audit).items():
        head.add_row(name, escape(text))
    told = Table("severity", "finding", "what to do", title="Findings", title_justify="left")
    for one in findings:
        style = STYLES[one.severity]
        what = f"{escape(one.title)}\n[dim]{escape(one.why)}[/]"
        told.add_row(f"[{style}]{one.severity}[/]", what, escape(one.advice), end_section=True)
    return [head, told]


def _facts(audit: Audit) -> dict[str, str]:
    counts = zip(audit.rows.class_names, audit.class_counts, strict=True)
    rows = len(audit.rows.labels)
    facts = {
        "patches": f"{rows:,}: "
        + ", ".join(f"{count:,} {name} ({count / max(rows, 1):.0%})" for name, count in counts),
        "size": f"{size_text(audit)}; {audit.shards.manifest.rejected:,} rejected",
    }
    for column in audit.columns:
        median = sorted(column.sizes.tolist())[len(column.sizes) // 2]
        facts[f"by {column.name}"] = (
            f"{len(column.sizes):,}, with {column.sizes[-1]:,} to {column.sizes[0]:,} rows,"
            f" median {median:,}" + (f"; {column.unknown:,} rows of none" if column.unknown else "")
        )
    surplus = sum(len(one.group.rows) - 1 for one in audit.exact)
    facts["duplicates"] = f"{len(audit.exact):,} groups, {surplus:,} surplus; near: " + (
        f"{len(audit.near):,} groups"
    )
    found = audit.leakage_gap
    facts["colour model"] = (
        f"AUROC {found.random:.3f} by random rows, {found.grouped:.3f} with patients apart, gap"
        f" {found.gap:+.3f} ({found.folds} folds of {found.rows:,} rows)"
        if found.random is not None and found.grouped is not None and found.gap is not None
        else f"not told: {found.reason or 'a fold lacks a class'}"
    )
    facts["split_manifests"] = (
        ", ".join(
            f"{one.name} ({'verified' if split_manifest_state(one)[-1] == 'verified' else 'at error'})"
            for one in audit.split_manifests
        )
        or "none yet"
    )
    return facts


def as_json(audit: Audit, findings: Sequence[Finding]) -> dict[str, Any]:
    """Everything found, as plain values; rows go by their files."""
    manifest, files, found = audit.shards.manifest, audit.names.files, audit.leakage_gap

    def named(rows: Sequence[int]) -> list[str]:
        return [str(files[row]) for row in rows]

    return {
        "data": audit.shards.folder.address,
        "fingerprint": audit.rows.fingerprint,
        "task": audit.shards.task,
        "dishonest": any(one.severity == DISHONEST for one in findings),
        "rows": len(audit.rows.labels),
        "classes": dict(zip(audit.rows.class_names, audit.class_counts, strict=True)),
        "shape": list(manifest.shape),
        "fitted": manifest.fitted,
        "rejected": manifest.rejected,
        "columns": {
            one.name: {
                "values": len(one.sizes),
                "unknown": one.unknown,
                "largest": {value.name: list(value.by_class) for value in one.largest},
            }
            for one in audit.columns
        },
        "findings": [
            {
                **{name: getattr(one, name) for name in ("key", "severity", "title", "why")},
                "advice": one.advice,
                "count": one.count,
                "details": list(one.details),
                "files": [named(group) for group in one.groups],
            }
            for one in findings
        ],
        "outliers": {one.kind: named(one.rows.tolist()) for one in audit.outliers},
        "duplicates": [{"files": named(one.group.rows), **_crossed(one)} for one in audit.exact],
        "near_duplicates": [
            {"files": named(one.group.rows), **_crossed(one)} for one in audit.near
        ],
        "colour_model": {
            "random": found.random,
            "by_patient": found.grouped,
            "gap": found.gap,
            "folds": found.folds,
            "rows": found.rows,
            "reason": found.reason,
        },
        "split_manifests": {
            one.name: {"error": one.error, "leaks": list(one.leaks)}
            for one in audit.split_manifests
        },
    }


def _crossed(one: Judged) -> dict[str, Any]:
    return {
        "kind": one.group.kind,
        "one_colour": one.empty,
        "patients": list(one.patients),
        "labels": list(one.labels),
        "parts": list(one.parts),
        "split_manifests": dict(one.split_manifests),
    }
