"""Findings about patches that are there twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raysearch.data.audit.audit import Audit, Judged
from raysearch.data.audit.finding import DISHONEST, NOTE, WARNING, Finding, counted

REMOVE = "Leave the surplus files out, and shard again."
TOGETHER = (
    "Give all files of a group one patient, or leave the surplus out; shard again, and split again."
)
LABELS = (
    "One label of each is wrong, so no model can be right about both, and no score of them is true."
)
PATIENTS = (
    "A split by patient puts one on the side that learns and the other on the side that judges: the"
    " model has seen its answer."
)
ALONE = " Here no patient is known: each file counts as its own."
EMPTY = "Empty patches look alike without being one place: they do not leak, and say nothing."


def told_duplicates(audit: Audit) -> Iterator[Finding]:
    """What the groups of the same pixels, turned or not, stand across."""
    real = [one for one in audit.exact if not one.empty]
    alone = any(one.name == "patient" and one.sizes[0] == 1 for one in audit.columns)
    patients = PATIENTS + (ALONE if alone else "")
    for key, some, where, why, advice in (
        ("labels", [one for one in real if len(one.labels) > 1], "under different labels", LABELS,
         "See which label is right, leave the other files out, and shard again."),
        ("patients", [one for one in real if len(one.patients) > 1], "under different patients",
         patients, TOGETHER),
        ("parts", [one for one in real if len(one.parts) > 1],
         "in several parts of the set's own split", "What is judged was learned.", REMOVE),
    ):  # fmt: skip
        if some:
            yield _finding(f"duplicates-{key}", DISHONEST, some, where, (why, advice))
    for split_manifest in audit.split_manifests:
        yield from _on_both_sides(real, split_manifest.name)
    within = [one for one in real if len(one.patients) < 2 and len(one.labels) < 2]
    if within:
        why = "They count several times in training and in every score."
        yield _finding("duplicates-within", WARNING, within, "within one patient", (why, REMOVE))
    empty = [one for one in audit.exact if one.empty]
    if empty:
        where = "and of a single colour"
        yield _finding("duplicates-empty", WARNING, empty, where, (EMPTY, REMOVE))


def _on_both_sides(real: Sequence[Judged], split_manifest: str) -> Iterator[Finding]:
    torn = [one for one in real if split_manifest in dict(one.split_manifests)]
    if torn:
        why = f"What is judged was learned, such as in {dict(torn[0].split_manifests)[split_manifest]}."
        advice = f"{TOGETHER} Trust no score of studies on this split manifest."
        where = f"on both sides of split manifest {split_manifest!r}"
        yield _finding("duplicates-split manifest", DISHONEST, torn, where, (why, advice))


def _finding(
    key: str, severity: str, some: Sequence[Judged], where: str, texts: tuple[str, str]
) -> Finding:
    title = f"{_groups(some)} of the same pixels {where}"
    return Finding(key, severity, title, *texts, len(some), tuple(one.group.rows for one in some))


def told_near(audit: Audit) -> Iterator[Finding]:
    """What looks nearly the same: a warning, since a hash that forgives can be wrong."""
    across = [one for one in audit.near if _crosses(one)]
    within = [one for one in audit.near if not _crosses(one)]
    for key, some, where, why in (
        ("near-across", across, "across patients, labels or sides of a split",
         "If they are one image, saved twice, what is judged was learned."),
        ("near-within", within, "within one patient", "They may be one image, counted twice."),
    ):  # fmt: skip
        if some:
            yield Finding(
                key,
                WARNING,
                f"{_groups(some)} that look nearly the same, {where}",
                why,
                "Look at them; leave out what is one image, and shard again.",
                len(some),
                tuple(one.group.rows for one in some),
            )
    if not audit.near_complete:
        yield Finding(
            "near-incomplete",
            NOTE,
            "Near duplicates were not searched among all patches",
            "Too many patches look alike to compare each with each.",
            "Leave out patches without structure first.",
        )


def _crosses(one: Judged) -> bool:
    sides = (one.patients, one.labels, one.parts)
    return bool(one.split_manifests) or any(len(side) > 1 for side in sides)


def _groups(some: Sequence[Judged]) -> str:
    patches = sum(len(one.group.rows) for one in some)
    return f"{counted(len(some), 'group')} ({counted(patches, 'patch')})"
