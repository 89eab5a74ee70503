"""Checks of an audit for patches that occur several times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raysearch.data.audit.findings import ERROR, INFO, WARNING, Finding
from raysearch.data.audit.shard_audit import Audit, DuplicateGroup
from raysearch.data.quantities import quantity

REMOVE_WRONG_LABELS = "Find the correct label, remove the other files and shard again."
REMOVE_COPIES = "Remove the surplus files and shard again."
MERGE_PATIENTS = (
    "Assign all files of a group to one patient, or remove the surplus files; then shard and split"
    " again."
)
CONTRADICTION = "At least one label of each group is wrong, so scores on these rows are not valid."
LEAKAGE = (
    "A split by patient can put one copy into the training set and another into the validation"
    " set: the model is evaluated on patches that it was trained on."
)
NO_PATIENTS = " The patients are unknown: each file counts as one patient."


def check_duplicates(audit: Audit) -> Iterator[Finding]:
    """Report identical, rotated or flipped patches, by what differs within their groups."""
    groups = [group for group in audit.exact_duplicates if not group.single_color]
    one_row_patients = any(
        column.name == "patient" and column.sizes[0] == 1 for column in audit.columns
    )
    leakage = LEAKAGE + (NO_PATIENTS if one_row_patients else "")
    yield from _duplicate_finding(
        "duplicates-labels",
        ERROR,
        [group for group in groups if len(group.class_names) > 1],
        "with different labels",
        (CONTRADICTION, REMOVE_WRONG_LABELS),
    )
    yield from _duplicate_finding(
        "duplicates-patients",
        ERROR,
        [group for group in groups if len(group.patients) > 1],
        "of different patients",
        (leakage, MERGE_PATIENTS),
    )
    yield from _duplicate_finding(
        "duplicates-official-split",
        ERROR,
        [group for group in groups if len(group.official_splits) > 1],
        "in several parts of the official split",
        ("The model is evaluated on patches that it was trained on.", REMOVE_COPIES),
    )
    for check in audit.split_manifests:
        yield from _duplicates_across_split(groups, check.name)
    yield from _duplicate_finding(
        "duplicates-within-patient",
        WARNING,
        [group for group in groups if len(group.patients) < 2 and len(group.class_names) < 2],
        "of one patient",
        ("These patches count several times in training and in every score.", REMOVE_COPIES),
    )
    yield from _duplicate_finding(
        "duplicates-single-color",
        WARNING,
        [group for group in audit.exact_duplicates if group.single_color],
        "of a single color",
        ("Empty patches can be identical without being copies; they add no information.",
         REMOVE_COPIES),
    )  # fmt: skip


def _duplicates_across_split(
    groups: Sequence[DuplicateGroup], split_manifest: str
) -> Iterator[Finding]:
    crossing_groups = [group for group in groups if group.crossing(split_manifest)]
    if crossing_groups:
        crossing = crossing_groups[0].crossing(split_manifest)
        example = crossing.sides if crossing else ""
        yield from _duplicate_finding(
            "duplicates-split-manifest",
            ERROR,
            crossing_groups,
            f"on both sides of split manifest {split_manifest!r}",
            (
                f"The model is evaluated on patches that it was trained on, e.g. {example}.",
                f"{MERGE_PATIENTS} Scores of studies on this split manifest are not valid.",
            ),
        )


def _duplicate_finding(
    key: str,
    severity: str,
    groups: Sequence[DuplicateGroup],
    difference: str,
    texts: tuple[str, str],
) -> Iterator[Finding]:
    """Yield a finding with (explanation, advice) `texts`, if there are any groups."""
    if groups:
        title = f"{_group_counts(groups)} with identical pixels {difference}"
        yield Finding(key, severity, title, *texts, len(groups), _rows_of(groups))


def check_near_duplicates(audit: Audit) -> Iterator[Finding]:
    """Report near-identical patches; only as warnings, because a perceptual hash can be wrong."""
    advice = "Look at them; remove all but one file of the same image and shard again."
    for key, crosses, location, explanation in (
        ("near-duplicates-across", True, "across patients, labels or sides of a split",
         "If they are copies of one image, the model is evaluated on patches that it was trained"
         " on."),
        ("near-duplicates-within-patient", False, "of one patient",
         "They may be copies of one image, which then counts several times."),
    ):  # fmt: skip
        groups = [group for group in audit.near_duplicates if _crosses(group) == crosses]
        if groups:
            title = f"{_group_counts(groups)} with near-identical pixels {location}"
            yield Finding(
                key, WARNING, title, explanation, advice, len(groups), _rows_of(groups)
            )  # fmt: skip
    if not audit.near_search_complete:
        yield Finding(
            "near-duplicates-incomplete",
            INFO,
            "The search for near duplicates did not compare all candidates",
            "Too many patches are similar to each other.",
            "Remove patches without structure and inspect again.",
        )


def _crosses(group: DuplicateGroup) -> bool:
    """Return whether rows of a group differ in patient, class or side of a split."""
    values = (group.patients, group.class_names, group.official_splits)
    return bool(group.crossings) or any(len(distinct) > 1 for distinct in values)


def _group_counts(groups: Sequence[DuplicateGroup]) -> str:
    num_patches = sum(len(group.rows) for group in groups)
    return f"{quantity(len(groups), 'group')} ({quantity(num_patches, 'patch')})"


def _rows_of(groups: Sequence[DuplicateGroup]) -> tuple[tuple[int, ...], ...]:
    return tuple(group.rows for group in groups)
