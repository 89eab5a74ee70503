"""Renders an audit as one self-contained HTML page with pictures, charts and styles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from raysearch.data.audit import outliers
from raysearch.data.audit.checks import run_checks
from raysearch.data.audit.duplicates import MAX_HASH_DISTANCE, MAX_THUMBNAIL_DISTANCE
from raysearch.data.audit.findings import SEVERITIES, Finding, has_errors, summarize
from raysearch.data.audit.row_statistics import ColumnCounts
from raysearch.data.audit.shard_audit import Audit
from raysearch.data.audit.shard_reader import Images, iter_row_groups
from raysearch.data.audit.split_integrity import SplitManifestCheck
from raysearch.data.file_access import write_file
from raysearch.data.pseudonyms import DisplayedNames, last_part
from raysearch.inference.image_rendering import data_uri
from raysearch.reports.audit_charts import Bar, bar_chart, histogram
from raysearch.reports.chart_canvas import Chart
from raysearch.reports.displayed_names import with_displayed_names
from raysearch.reports.html_page import render_page

MAX_CASES, MAX_PICTURES_PER_CASE, MAX_SAMPLES = 24, 4, 18
# Larger patches are embedded as downscaled JPEG files, because a page can have hundreds of them.
MAX_JPEG_SIDE, MAX_PNG_SIDE = 208, 100
MAX_OPEN_VALUES = 5
MAX_NAME_LENGTH = 40
RULES = (
    "Near-gray: the mean over pixels of the largest minus the smallest channel is below"
    f" {outliers.MAX_GRAY_CHROMA:g}. Near-uniform: the standard deviation of all values is below"
    f" {outliers.MAX_UNIFORM_STD:g}, or that within channels is below"
    f" {outliers.MAX_UNIFORM_CHANNEL_STD:g}. Black: the mean of all values is below"
    f" {outliers.MAX_BLACK_MEAN:g}. Blank: it is above {outliers.MIN_BLANK_MEAN:g}."
    " Values range from 0 to 255; white padding is excluded.",
    "Odd stain: the mean optical density -log10(I / 255) of a channel (Ruifrok and Johnston 2001)"
    " has a modified z-score 0.6745 |x - median| / MAD above"
    f" {outliers.MAX_ROBUST_SCORE:g} (Iglewicz and Hoaglin 1993 recommend 3.5 for tens of values).",
    "Identical: equal SHA-256 of the pixels. Rotated or flipped: the smallest SHA-256 of the eight"
    " flips and quarter turns is equal.",
    "Near-identical: 64-bit difference hashes (Krawetz 2013) differ in at most"
    f" {MAX_HASH_DISTANCE} bits, and the gray thumbnails by at most {MAX_THUMBNAIL_DISTANCE:g}"
    " levels on average. Near-uniform patches and rotated copies are not compared.",
    "Identical patches of a single color are a warning, because empty positions look alike.",
)


@dataclass(frozen=True)
class PatchPicture:
    """A patch as a data URI, with its label, patient, part of the official split and file."""

    uri: str
    label: str
    patient: str
    official_split: str
    file: str

    @property
    def short_name(self) -> str:
        """The name of the file without folders and suffix, shortened at its start."""
        name = PurePosixPath(self.file).stem
        return name if len(name) <= MAX_NAME_LENGTH else f"…{name[1 - MAX_NAME_LENGTH :]}"


@dataclass(frozen=True)
class FindingSection:
    """A finding, the pictures of its first cases and the number of cases without pictures."""

    finding: Finding
    cases: tuple[tuple[PatchPicture, ...], ...]
    num_hidden_cases: int


@dataclass(frozen=True)
class ColumnSection:
    """A column of the rows: the cells of its summary and a table row for each listed value."""

    name: str
    cells: tuple[str, ...]
    is_open: bool
    is_truncated: bool
    value_rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class LeakageGapSection:
    """The leakage gap in one sentence, as a chart if it is measured, and the method."""

    text: str
    chart: Chart | None
    method: str


@dataclass(frozen=True)
class SampleSection:
    """Random patches of one class."""

    class_name: str
    num_rows: str
    pictures: tuple[PatchPicture, ...]


@dataclass(frozen=True)
class AuditPage:
    """Everything that the template `audit_page.html` reads."""

    task: str
    fingerprint: str
    source: str
    size: str
    summary: str
    tone: str
    tiles: tuple[tuple[str, str], ...]
    findings: tuple[FindingSection, ...]
    class_names: tuple[str, ...]
    charts: tuple[Chart, ...]
    columns: tuple[ColumnSection, ...]
    leakage_gap: LeakageGapSection
    split_manifests: tuple[tuple[str, ...], ...]
    samples: tuple[SampleSection, ...]
    seed: int
    rules: tuple[str, ...]


def write_audit_page(audit: Audit, path: Path, names: DisplayedNames) -> None:
    """Write the page to `path`, with the displayed `names` and no folder of this machine."""
    title = f"Inspection of {last_part(audit.shards.folder.address)}"
    displayed = with_displayed_names(audit, names)
    page = build_audit_page(displayed, run_checks(displayed))
    write_file(path, render_page("audit_page.html", title=title, page=page).encode())


def build_audit_page(audit: Audit, findings: Sequence[Finding]) -> AuditPage:
    """Build the content of the page; reads the pictures from the shards."""
    case_rows = [_case_rows(finding) for finding in findings]
    sample_rows = _sample_rows(audit)
    shown_rows = {row for cases in case_rows for case in cases for row in case}
    shown_rows |= {row for rows in sample_rows for row in rows}
    pictures = _read_pictures(audit, shown_rows)
    return AuditPage(
        task=audit.shards.task,
        fingerprint=audit.rows.fingerprint,
        source=audit.shards.manifest.source,
        size=audit.size_text,
        summary=summarize(findings),
        tone="error" if has_errors(findings) else "good",
        tiles=_tiles(audit, findings),
        findings=tuple(
            FindingSection(
                finding,
                tuple(tuple(pictures[row] for row in case) for case in cases),
                len(finding.groups) - len(cases),
            )
            for finding, cases in zip(findings, case_rows, strict=True)
        ),
        class_names=audit.rows.class_names,
        charts=(_class_chart(audit), *_patient_charts(audit)),
        columns=tuple(_column_section(column) for column in audit.columns),
        leakage_gap=_leakage_gap_section(audit),
        split_manifests=tuple(_split_manifest_cells(check) for check in audit.split_manifests),
        samples=tuple(
            SampleSection(name, f"{count:,}", tuple(pictures[row] for row in rows))
            for name, count, rows in zip(
                audit.rows.class_names, audit.class_counts, sample_rows, strict=True
            )
        ),
        seed=audit.seed,
        rules=RULES,
    )


def _tiles(audit: Audit, findings: Sequence[Finding]) -> tuple[tuple[str, str], ...]:
    """Return the name and the number of each tile at the top of the page."""
    severities = [finding.severity for finding in findings]
    return (
        ("patches", f"{len(audit.rows.labels):,}"),
        ("patients", f"{len(np.unique(audit.rows.patients)):,}"),
        ("rejected files", f"{audit.shards.manifest.rejected:,}"),
        ("duplicate groups", f"{len(audit.exact_duplicates):,}"),
        ("near-duplicate groups", f"{len(audit.near_duplicates):,}"),
        *((f"findings: {severity}", f"{severities.count(severity):,}") for severity in SEVERITIES),
    )


def _case_rows(finding: Finding) -> list[tuple[int, ...]]:
    return [case[:MAX_PICTURES_PER_CASE] for case in finding.groups[:MAX_CASES]]


def _sample_rows(audit: Audit) -> list[list[int]]:
    """Draw rows of each class, from as many patients as possible."""
    rng = np.random.default_rng(audit.seed)
    sample_rows = []
    for label in range(len(audit.rows.class_names)):
        rows = rng.permutation(np.flatnonzero(audit.rows.labels == label))
        _patients, first = np.unique(audit.rows.patients[rows], return_index=True)
        remaining = np.setdiff1d(np.arange(len(rows)), first)
        order = np.concatenate([np.sort(first), remaining])[:MAX_SAMPLES].astype(np.int64)
        sample_rows.append(sorted(rows[order].tolist()))
    return sample_rows


def _read_pictures(audit: Audit, row_numbers: Iterable[int]) -> dict[int, PatchPicture]:
    rows, pictures = audit.rows, {}
    selected = np.array(sorted(row_numbers), np.int64)
    for group_rows, pixels in iter_row_groups(audit.shards, selected):
        for row, image in zip(group_rows.tolist(), pixels, strict=True):
            pictures[row] = PatchPicture(
                _embed(image),
                rows.class_names[rows.labels[row]],
                str(rows.patients[row]),
                str(rows.official_splits[row]),
                str(audit.sources.files[row]),
            )
    return pictures


def _embed(image: Images) -> str:
    """Encode an image (H, W, 3) as a data URI: PNG, or downscaled JPEG if it is large."""
    side = max(image.shape[:2])
    if side <= MAX_PNG_SIDE:
        return data_uri(image, "png")
    scale = min(1.0, MAX_JPEG_SIDE / side)
    resized = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return data_uri(np.asarray(resized, np.uint8), "jpeg")


def _class_chart(audit: Audit) -> Chart:
    num_rows = max(len(audit.rows.labels), 1)
    class_bars = [
        Bar(name, count, f"{count:,} ({count / num_rows:.0%})")
        for name, count in zip(audit.rows.class_names, audit.class_counts, strict=True)
    ]
    return bar_chart("patches-by-class", "Patches by class", class_bars, "patches")


def _patient_charts(audit: Audit) -> tuple[Chart, ...]:
    """Return the distributions of patients' sizes and classes, if patients have several rows."""
    columns = [
        column for column in audit.columns if column.name == "patient" and column.sizes[0] > 1
    ]
    if not columns:
        return ()
    column, class_name = columns[0], audit.rows.class_names[-1]
    size_title = f"Patients by number of patches ({len(column.sizes):,})"
    class_title = f"Patients by percentage of {class_name}"
    percentages = 100 * column.last_class_fractions
    return (
        histogram(
            *("patients-by-patches", size_title, column.sizes.astype(float)),
            *("patches of a patient", "patients"),
        ),
        histogram("patients-by-class", class_title, percentages, f"% {class_name}", "patients"),
    )


def _column_section(column: ColumnCounts) -> ColumnSection:
    num_values = len(column.sizes)
    numbers = (
        num_values,
        column.sizes[-1],
        np.median(column.sizes),
        column.sizes[0],
        column.num_missing,
    )
    return ColumnSection(
        name=column.name,
        cells=tuple(f"{number:,.0f}" for number in numbers),
        is_open=num_values <= MAX_OPEN_VALUES,
        is_truncated=num_values > len(column.largest),
        value_rows=tuple(
            (value.name, f"{value.num_rows:,}", *(f"{count:,}" for count in value.by_class))
            for value in column.largest
        ),
    )


def _split_manifest_cells(check: SplitManifestCheck) -> tuple[str, ...]:
    """Return the name, task, group column, size of the test set, schemes and status."""
    split_manifest = check.split_manifest
    if split_manifest is None:
        return (check.name, "", "", "", "", check.status)
    return (
        check.name,
        split_manifest.task,
        split_manifest.by,
        f"{len(split_manifest.held_out):,}",
        ", ".join(split_manifest.schemes),
        check.status,
    )


def _leakage_gap_section(audit: Audit) -> LeakageGapSection:
    result = audit.leakage_gap
    random_auroc, grouped_auroc, gap = result.random_auroc, result.grouped_auroc, result.gap
    method = (
        f"{result.model.capitalize()} on 15 color statistics of a patch (mean, standard deviation,"
        " 10th and 90th percentile of each channel; mean hue, saturation and value);"
        f" {result.num_rows:,} rows without the held-out test set, seed {audit.seed}; AUROC, mean"
        f" over {result.num_folds} folds."
    )
    if random_auroc is None or grouped_auroc is None or gap is None:
        return LeakageGapSection(f"Not measured: {result.undefined_reason}.", None, method)
    auroc_bars = [
        Bar("random folds", random_auroc, f"{random_auroc:.3f}"),
        Bar("folds by patient", grouped_auroc, f"{grouped_auroc:.3f}"),
    ]
    text = f"A random split changes the AUROC of a color model by {gap:+.3f}."
    if result.single_row_patients:
        text = "Each row has its own patient, so both splits are random and the gap means nothing."
    name, title = "leakage-gap", "AUROC of a color model"
    chart = bar_chart(name, title, auroc_bars, "AUROC", full_length=1.12)
    return LeakageGapSection(text, chart, method)
