"""Findings about who is on which side of a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from raysearch.data.audit.finding import DISHONEST, NOTE, Finding, counted
from raysearch.data.audit.leakage_gap import LeakageGap
from raysearch.data.audit.split_integrity import Checked
from raysearch.data.patches import Rows


def told_parts(rows: Rows) -> Iterator[Finding]:
    """Patients in several parts of the split that the set itself brings."""
    placed = rows.parts != ""
    pairs = set(zip(rows.patients[placed].tolist(), rows.parts[placed].tolist(), strict=True))
    parts = Counter(patient for patient, _part in pairs)
    torn = sorted(patient for patient, count in parts.items() if count > 1)
    if torn:
        yield Finding(
            "patients-parts",
            DISHONEST,
            f"{counted(len(torn), 'patient')} in several parts of the set's own split",
            "The model is judged on patients that it has learned.",
            "Do not use this split as it is: let raysearch split draw one by patient.",
            len(torn),
            details=tuple(torn),
        )


def told_split_manifests(split_manifests: Sequence[Checked]) -> Iterator[Finding]:
    """Ledgers that do not verify, or tear patients apart; and that there is none."""
    for one in split_manifests:
        if one.error:
            yield Finding(
                "split manifest-error",
                DISHONEST,
                f"Ledger {one.name!r} does not verify",
                one.error,
                "Restore its two files, or write another by raysearch split --name; trust no score"
                " of studies on it.",
            )
        if one.leaks:
            yield Finding(
                "split manifest-leaks",
                DISHONEST,
                f"{counted(len(one.leaks), 'patient')} on both sides of split manifest {one.name!r}",
                "The model is judged on patients that it has learned, as was allowed when the"
                " split manifest was written.",
                "Split by patient, or tell these patients beside every score.",
                len(one.leaks),
                details=one.leaks,
            )
    if not split_manifests:
        yield Finding(
            "no-split manifest",
            NOTE,
            "No split is written down yet",
            "Studies make one by patient when they start.",
            "Nothing, or write one by raysearch split, to choose its test set and folds.",
        )


def told_leakage_gap(found: LeakageGap) -> Iterator[Finding]:
    """What colours alone reach, and how much of it is knowing the patients."""
    if found.random is None or found.grouped is None or found.gap is None or found.alone:
        return
    yield Finding(
        "leakage_gap",
        NOTE,
        f"A random split would flatter a model of colours by {found.gap:+.3f} AUROC",
        f"15 colour statistics a patch reach {found.random:.3f} with patients mixed over"
        f" {found.folds} folds, and {found.grouped:.3f} with patients apart.",
        f"Split by patient. A network that does not beat {found.grouped:.3f} has learned colour"
        " alone.",
    )
