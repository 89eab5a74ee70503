"""Verifies every split manifest of a set of shards: its hash, its counts and its separation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.data.files import Folder
from raysearch.data.shards.rows import Rows, View, load_rows
from raysearch.data.splits.leak_check import check_leaks
from raysearch.data.splits.split_manifest import (
    FOLDER,
    SplitManifest,
    check_split_rows,
    count_classes,
    read_split_manifest,
)
from raysearch.errors import DataError

VERIFIED = "verified"


@dataclass(frozen=True)
class SplitManifestCheck:
    """The result of verifying one split manifest.

    Attributes:
        name: Name of the split manifest.
        split_manifest: Its content; None if it cannot be read.
        error: Reason why it is invalid; empty if it is valid.
        leaks: One message for each patient in both sides of a split.
    """

    name: str
    split_manifest: SplitManifest | None
    error: str = ""
    leaks: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """The result in a few words."""
        if self.error:
            return self.error
        return f"{len(self.leaks):,} patients on both sides" if self.leaks else VERIFIED


def verify_split_manifests(data: str, fingerprint: str) -> tuple[SplitManifestCheck, ...]:
    """Verify every split manifest of the shards at `data` against the shards' fingerprint."""
    folder = Folder(data)
    names = [name for name in folder.names(FOLDER) if name.endswith(".json")]
    return tuple(_check(folder, data, name.removesuffix(".json"), fingerprint) for name in names)


def _check(folder: Folder, data: str, name: str, fingerprint: str) -> SplitManifestCheck:
    split_manifest = None
    try:
        split_manifest = read_split_manifest(folder, name, fingerprint)
        rows = load_rows(data, View(split_manifest.task))
        groups = rows.groups(split_manifest.by)
        counts = count_classes(groups, rows.labels, len(rows.class_names), split_manifest)
        check_split_rows(split_manifest, counts)
        all_patients = np.unique(rows.patients).tolist()
        leaks = check_leaks(split_manifest, groups, rows.patients, all_patients)
        return SplitManifestCheck(name, split_manifest, "", leaks)
    except DataError as error:
        return SplitManifestCheck(name, split_manifest, str(error))


def duplicates_across_splits(
    check: SplitManifestCheck, rows: Rows, duplicates: Sequence[tuple[int, ...]]
) -> dict[int, str]:
    """Find the groups of duplicates that have rows on both sides of a split.

    Args:
        check: A verified split manifest.
        rows: The audited rows.
        duplicates: Row numbers of each group of duplicates.

    Returns:
        Index of each such group -> the first split that it crosses. Empty if the split manifest is
        invalid.
    """
    split_manifest = check.split_manifest
    if split_manifest is None or check.error:
        return {}
    split_groups = rows.column(split_manifest.by)
    members = {
        index: set(split_groups[list(row_numbers)].tolist())
        for index, row_numbers in enumerate(duplicates)
    }
    remaining = {index: groups for index, groups in members.items() if len(groups) > 1}
    crossings: dict[int, str] = {}
    for name, first_side, second_side in _split_sides(split_manifest):
        for index, groups in list(remaining.items()):
            if groups & first_side and groups & second_side:
                crossings[index] = name
                del remaining[index]
    return crossings


def _split_sides(split_manifest: SplitManifest) -> Iterator[tuple[str, set[str], set[str]]]:
    """Iterate over the pairs of sets of groups that must be disjoint, with a name for each pair."""
    held_out = set(split_manifest.held_out)
    for scheme, folds in split_manifest.schemes.items():
        for number, fold in enumerate(folds):
            train, validation = set(fold.train), set(fold.validation)
            if not number:  # every fold of a scheme has the same groups
                yield f"held-out test set and {scheme}", held_out, train | validation
            yield f"train and validation of {scheme}, fold {number}", train, validation


def held_out_mask(checks: Sequence[SplitManifestCheck], rows: Rows) -> NDArray[np.bool_]:
    """Return which rows are in the held-out test set of any valid split manifest, shape (N,)."""
    mask = np.zeros(len(rows.labels), np.bool_)
    for check in checks:
        split_manifest = check.split_manifest
        if split_manifest is not None and split_manifest.held_out and not check.error:
            mask |= np.isin(rows.column(split_manifest.by), split_manifest.held_out)
    return mask
