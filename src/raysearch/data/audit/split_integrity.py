"""Every split manifest of a set looked at again: its hash, its counts, and what stands on both sides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.data.files import Folder
from raysearch.data.patches import Rows, load_rows
from raysearch.data.splits.split_creation import reject_leaks
from raysearch.data.splits.split_manifest import (
    FOLDER,
    SplitManifest,
    count_classes,
    read_split_manifest,
    reject_unlike,
)
from raysearch.data.view import GROUPS, View
from raysearch.errors import DataError


@dataclass(frozen=True)
class Checked:
    """A split manifest by its name: what is wrong with it, or nothing, and which patients it tears apart.

    `split_manifest` is None where it cannot be read.
    """

    name: str
    split_manifest: SplitManifest | None
    error: str = ""
    leaks: tuple[str, ...] = ()


def check_split_manifests(data: str, fingerprint: str) -> tuple[Checked, ...]:
    """Every split manifest of the shards at `data`, whose fingerprint is given."""
    folder = Folder(data)
    names = [name for name in folder.names(FOLDER) if name.endswith(".json")]
    return tuple(_check(folder, data, name.removesuffix(".json"), fingerprint) for name in names)


def _check(folder: Folder, data: str, name: str, fingerprint: str) -> Checked:
    split_manifest = None
    try:
        split_manifest = read_split_manifest(folder, name, fingerprint)
        rows = load_rows(data, View(split_manifest.task))
        groups = rows.groups(split_manifest.by)
        counts = count_classes(groups, rows.labels, len(rows.class_names), split_manifest)
        reject_unlike(split_manifest, counts)
        everyone = np.unique(rows.patients).tolist()
        return Checked(
            name, split_manifest, "", reject_leaks(split_manifest, groups, rows.patients, everyone)
        )
    except DataError as error:
        return Checked(name, split_manifest, str(error))


def crossings(
    checked: Checked, rows: Rows, duplicates: Sequence[tuple[int, ...]]
) -> dict[int, str]:
    """Which of the `duplicates`, by their place, stand on two sides of the split manifest, and where first.

    A split manifest that cannot be used tells nothing.
    """
    split_manifest = checked.split_manifest
    if split_manifest is None or checked.error:
        return {}
    groups = _groups(rows, split_manifest)
    members = {at: set(groups[list(some)].tolist()) for at, some in enumerate(duplicates)}
    open_still = {at: some for at, some in members.items() if len(some) > 1}
    found: dict[int, str] = {}
    for where, one, other in _sides(split_manifest):
        for at, some in list(open_still.items()):
            if some & one and some & other:
                found[at] = where
                del open_still[at]
    return found


def _sides(split_manifest: SplitManifest) -> Iterator[tuple[str, set[str], set[str]]]:
    """Every two sets of groups that are to share nothing, and their name."""
    held_out = set(split_manifest.held_out)
    for scheme, folds in split_manifest.schemes.items():
        for number, fold in enumerate(folds):
            learn, judge = set(fold.learn), set(fold.judge)
            if not number:  # every fold of a scheme has the same groups
                yield f"held-out test set and {scheme}", held_out, learn | judge
            yield f"learn and judge of {scheme}, fold {number}", learn, judge


def held_out_rows(split_manifests: Sequence[Checked], rows: Rows) -> NDArray[np.bool_]:
    """Which rows (N,) some split manifest keeps as a test set."""
    inside = np.zeros(len(rows.labels), np.bool_)
    for one in split_manifests:
        if one.split_manifest is not None and one.split_manifest.held_out and not one.error:
            inside |= np.isin(_groups(rows, one.split_manifest), one.split_manifest.held_out)
    return inside


def _groups(rows: Rows, split_manifest: SplitManifest) -> NDArray[np.str_]:
    """The column that the split manifest goes by; rows of another task may be empty there."""
    groups: NDArray[np.str_] = getattr(rows, GROUPS[split_manifest.by])
    return groups
