"""An audit as one page that needs nothing beside it: pictures, charts and styles are inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from raysearch.cli.audit_text import decision, size_text, split_manifest_state
from raysearch.data.audit import outliers as rules
from raysearch.data.audit.audit import Audit
from raysearch.data.audit.counts import Column
from raysearch.data.audit.duplicates import MAX_APART, RADIUS
from raysearch.data.audit.finding import DISHONEST, SEVERITIES, Finding
from raysearch.data.audit.shard_reader import Images, scan
from raysearch.inference.image_files import data_uri
from raysearch.reports.bar_charts import Bar, bars, histogram
from raysearch.reports.html_page import rendered

CASES, A_CASE, SAMPLES = 24, 4, 18
# Larger pictures are shown smaller, and as JPEG: a page of hundreds has to stay light.
LARGEST, PLAIN = 208, 100
RULES = (
    f"Near-grey: the mean over pixels of the largest minus the smallest channel is below"
    f" {rules.GREY:g}. Near-uniform: the standard deviation of all values is below"
    f" {rules.UNIFORM:g}, or that within channels below {rules.FLAT:g}."
    f" Black: the mean of all values is below {rules.BLACK:g}. Blank: it is above {rules.BLANK:g}."
    " All on a scale of 0 to 255, and without white that was padded.",
    "Odd stain: the mean optical density -log10(I / 255) of a channel (Ruifrok and Johnston 2001)"
    f" has a modified z-score 0.6745 |x - median| / MAD above {rules.ODD:g} (Iglewicz and Hoaglin"
    " 1993, who take 3.5 for tens of values).",
    "Same pixels: equal SHA-256. Turned or flipped: the smallest SHA-256 of the eight flips and"
    " quarter turns is equal.",
    f"Nearly the same: difference hashes of 64 bits (Krawetz 2013) differ in at most {RADIUS}, and"
    f" the grey thumbnails by at most {MAX_APART:g} levels on average. Patches that are"
    " near-uniform are not compared, nor turned ones.",
    "Patches of one single colour that are the same are told as a warning: two empty places look"
    " alike.",
)


@dataclass(frozen=True)
class Picture:
    """A row to look at: its image as a data URI, and what is known of it."""

    uri: str
    label: str
    patient: str
    part: str
    file: str

    @property
    def short(self) -> str:
        """The file's own name, without folders and ending, and only the end of a long one."""
        name = PurePosixPath(self.file).stem
        return name if len(name) <= 40 else f"…{name[-39:]}"


def write_page(audit: Audit, findings: Sequence[Finding], path: Path) -> None:
    """Write the page to `path`; its folder is made."""
    shown = [_cases(one) for one in findings]
    samples = _samples(audit)
    wanted = {row for cases in shown for case in cases for row in case}
    pictures = _pictures(audit, wanted | {row for some in samples for row in some})
    context = {
        **_head(audit, findings),
        "findings": [
            {
                **{name: getattr(one, name) for name in ("severity", "title", "why", "advice")},
                "details": one.details,
                "cases": [[pictures[row] for row in case] for case in cases],
                "hidden": len(one.groups) - len(cases),
            }
            for one, cases in zip(findings, shown, strict=True)
        ],
        **_counts(audit),
        "leakage_gap": _leakage_gap(audit),
        "split_manifests": [split_manifest_state(one) for one in audit.split_manifests],
        "samples": [
            {"name": name, "rows": f"{count:,}", "pictures": [pictures[row] for row in some]}
            for name, count, some in zip(
                audit.rows.class_names, audit.class_counts, samples, strict=True
            )
        ],
        "seed": audit.seed,
        "rules": RULES,
    }
    path.write_text(rendered(Path(__file__).with_suffix(".html"), context), encoding="utf-8")


def _head(audit: Audit, findings: Sequence[Finding]) -> dict[str, Any]:
    severities = [one.severity for one in findings]
    dishonest = DISHONEST in severities
    return {
        "title": f"Inspection of {audit.shards.folder.address}",
        "task": audit.shards.task,
        "fingerprint": audit.rows.fingerprint,
        "source": audit.shards.manifest.source,
        "size": size_text(audit),
        "decision": decision(findings),
        "tone": "dishonest" if dishonest else "good",
        "tiles": [
            ("patches", f"{len(audit.rows.labels):,}"),
            ("patients", f"{len(np.unique(audit.rows.patients)):,}"),
            ("rejected files", f"{audit.shards.manifest.rejected:,}"),
            ("groups of duplicates", f"{len(audit.exact):,}"),
            ("of near duplicates", f"{len(audit.near):,}"),
            *((_plural(one), f"{severities.count(one):,}") for one in SEVERITIES),
        ],
    }


def _plural(severity: str) -> str:
    return severity if severity == DISHONEST else f"{severity}s"


def _cases(finding: Finding) -> list[tuple[int, ...]]:
    return [case[:A_CASE] for case in finding.groups[:CASES]]


def _samples(audit: Audit) -> list[list[int]]:
    """Rows of each class, drawn by the seed, from as many patients as there are."""
    draw = np.random.default_rng(audit.seed)
    found = []
    for label in range(len(audit.rows.class_names)):
        rows = draw.permutation(np.flatnonzero(audit.rows.labels == label))
        _names, first = np.unique(audit.rows.patients[rows], return_index=True)
        rest = np.setdiff1d(np.arange(len(rows)), first)
        chosen = np.concatenate([np.sort(first), rest])[:SAMPLES].astype(np.int64)
        found.append(sorted(rows[chosen].tolist()))
    return found


def _pictures(audit: Audit, wanted: set[int]) -> dict[int, Picture]:
    rows, found = audit.rows, {}
    for numbers, pixels in scan(audit.shards, np.array(sorted(wanted), np.int64)):
        for row, image in zip(numbers.tolist(), pixels, strict=True):
            found[row] = Picture(
                _data_uri(image),
                rows.class_names[rows.labels[row]],
                str(rows.patients[row]),
                str(rows.parts[row]),
                str(audit.names.files[row]),
            )
    return found


def _data_uri(image: Images) -> str:
    kind, side = "png", max(image.shape[:2])
    if side > PLAIN:
        kind, fraction = "jpeg", min(1.0, LARGEST / side)
        image = np.asarray(
            cv2.resize(image, None, fx=fraction, fy=fraction, interpolation=cv2.INTER_AREA),
            np.uint8,
        )
    return data_uri(image, kind)


def _counts(audit: Audit) -> dict[str, Any]:
    names, whole = audit.rows.class_names, max(len(audit.rows.labels), 1)
    classes = [
        Bar(name, count, f"{count:,} ({count / whole:.0%})")
        for name, count in zip(names, audit.class_counts, strict=True)
    ]
    return {
        "class_names": names,
        "class_chart": bars("Patches by class", classes),
        "charts": [chart for one in audit.columns for chart in _charts(one, names)],
        "columns": [_column(one) for one in audit.columns],
    }


def _charts(column: Column, names: Sequence[str]) -> list[dict[str, str]]:
    """Of patients, when they have several rows: how many, and how their classes differ."""
    if column.name != "patient" or column.sizes[0] < 2:
        return []
    sizes = f"Patients by their patches ({len(column.sizes):,})"
    fractions = f"Patients by their share of {names[-1]}"
    return [
        {"title": sizes, "svg": histogram(sizes, column.sizes.astype(float), "patches a patient")},
        {"title": fractions, "svg": histogram(fractions, 100 * column.fractions, f"% {names[-1]}")},
    ]


def _column(one: Column) -> dict[str, Any]:
    numbers = (len(one.sizes), one.sizes[-1], np.median(one.sizes), one.sizes[0], one.unknown)
    return {
        "name": one.name,
        "cells": [f"{number:,.0f}" for number in numbers],
        "open": len(one.sizes) <= 5,
        "more": len(one.sizes) > len(one.largest),
        "listed": [
            [value.name, f"{value.rows:,}", *(f"{count:,}" for count in value.by_class)]
            for value in one.largest
        ],
    }


def _leakage_gap(audit: Audit) -> dict[str, str]:
    found = audit.leakage_gap
    how = (
        "Boosted trees on 15 colour statistics a patch (mean, deviation, tenth and ninetieth"
        " percentile of each channel; mean hue, saturation, value);"
        f" {found.rows:,} rows, held-out patients left out, seed {audit.seed}; AUROC, mean over"
        f" {found.folds} folds."
    )
    if found.random is None or found.grouped is None or found.gap is None:
        return {
            "text": f"Not told: {found.reason or 'a fold lacks a class'}.",
            "svg": "",
            "how": how,
        }
    pair = [
        Bar("random rows", found.random, f"{found.random:.3f}"),
        Bar("patients apart", found.grouped, f"{found.grouped:.3f}"),
    ]
    text = f"The gap is {found.gap:+.3f} AUROC: so much a random split would flatter colours alone."
    if found.alone:
        text = "Each row has a patient of its own, so both splits are random: the gap says nothing."
    return {"text": text, "svg": bars("AUROC of a colour model", pair, full=1.0), "how": how}
