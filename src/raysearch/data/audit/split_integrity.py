"""Every ledger of a set looked at again: its hash, its counts, and what stands on both sides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.data.files import Folder
from raysearch.data.patches import Rows, load_rows
from raysearch.data.splits.split_creation import refuse_leaks
from raysearch.data.splits.split_manifest import (
    FOLDER,
    Ledger,
    count_classes,
    read_ledger,
    refuse_unlike,
)
from raysearch.data.view import GROUPS, View
from raysearch.errors import DataError


@dataclass(frozen=True)
class Checked:
    """A ledger by its name: what is wrong with it, or nothing, and which patients it tears apart.

    `ledger` is None where it cannot be read.
    """

    name: str
    ledger: Ledger | None
    fault: str = ""
    leaks: tuple[str, ...] = ()


def check_ledgers(data: str, fingerprint: str) -> tuple[Checked, ...]:
    """Every ledger of the shards at `data`, whose fingerprint is given."""
    folder = Folder(data)
    names = [name for name in folder.names(FOLDER) if name.endswith(".json")]
    return tuple(_check(folder, data, name.removesuffix(".json"), fingerprint) for name in names)


def _check(folder: Folder, data: str, name: str, fingerprint: str) -> Checked:
    ledger = None
    try:
        ledger = read_ledger(folder, name, fingerprint)
        rows = load_rows(data, View(ledger.task))
        groups = rows.groups(ledger.by)
        counts = count_classes(groups, rows.labels, len(rows.class_names), ledger)
        refuse_unlike(ledger, counts)
        everyone = np.unique(rows.patients).tolist()
        return Checked(name, ledger, "", refuse_leaks(ledger, groups, rows.patients, everyone))
    except DataError as fault:
        return Checked(name, ledger, str(fault))


def crossings(
    checked: Checked, rows: Rows, duplicates: Sequence[tuple[int, ...]]
) -> dict[int, str]:
    """Which of the `duplicates`, by their place, stand on two sides of the ledger, and where first.

    A ledger that cannot be used tells nothing.
    """
    ledger = checked.ledger
    if ledger is None or checked.fault:
        return {}
    groups = _groups(rows, ledger)
    members = {at: set(groups[list(some)].tolist()) for at, some in enumerate(duplicates)}
    open_still = {at: some for at, some in members.items() if len(some) > 1}
    found: dict[int, str] = {}
    for where, one, other in _sides(ledger):
        for at, some in list(open_still.items()):
            if some & one and some & other:
                found[at] = where
                del open_still[at]
    return found


def _sides(ledger: Ledger) -> Iterator[tuple[str, set[str], set[str]]]:
    """Every two sets of groups that are to share nothing, and their name."""
    sealed = set(ledger.sealed)
    for scheme, folds in ledger.schemes.items():
        for number, fold in enumerate(folds):
            learn, judge = set(fold.learn), set(fold.judge)
            if not number:  # every fold of a scheme has the same groups
                yield f"sealed test set and {scheme}", sealed, learn | judge
            yield f"learn and judge of {scheme}, fold {number}", learn, judge


def sealed_rows(ledgers: Sequence[Checked], rows: Rows) -> NDArray[np.bool_]:
    """Which rows (N,) some ledger keeps as a test set."""
    inside = np.zeros(len(rows.labels), np.bool_)
    for one in ledgers:
        if one.ledger is not None and one.ledger.sealed and not one.fault:
            inside |= np.isin(_groups(rows, one.ledger), one.ledger.sealed)
    return inside


def _groups(rows: Rows, ledger: Ledger) -> NDArray[np.str_]:
    """The column that the ledger goes by; rows of another task may be empty there."""
    groups: NDArray[np.str_] = getattr(rows, GROUPS[ledger.by])
    return groups
