"""Folds that keep a patient's patches together and spread the classes evenly.

Our own code, because a split must outlive the libraries: it depends on the patients' names, their
counts by class, the number of folds and the seed, and on nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.errors import DataError


@dataclass(frozen=True)
class Fold:
    """The groups that a fold learns from and those that it is judged by, each sorted."""

    learn: tuple[str, ...]
    judge: tuple[str, ...]


def folds_from(names: Sequence[str], judged: Iterable[Iterable[str]]) -> tuple[Fold, ...]:
    """A fold for each of `judged`, which learns from all others of `names`."""
    sides = [set(one) for one in judged]
    return tuple(
        Fold(tuple(name for name in names if name not in held), tuple(sorted(held)))
        for held in sides
    )


def assign_folds(
    patients: NDArray[np.str_],
    labels: NDArray[np.int64],
    folds: int,
    seed: int,
    class_names: Sequence[str] = (),
) -> dict[str, int]:
    """The fold, 0 to `folds` - 1, of each patient; `patients` and `labels` are (N,).

    The patients go, the ones with most patches first, each to the fold that it leaves most even in
    the share of every class. DataError where there are fewer patients than folds, or fewer
    patients with a class than folds: then a fold would judge without it. `class_names` are for
    that message alone.
    """
    names, counts = tally(patients, labels)
    _reject_few(counts, folds, class_names)
    ties = [hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in names.tolist()]
    order = sorted(range(len(names)), key=lambda one: (-int(counts[one].sum()), ties[one]))
    rarest = int(np.argmin((counts > 0).sum(axis=0)))
    order.sort(key=lambda one: counts[one, rarest] == 0)  # stable: the rarest class first
    fraction = counts / np.maximum(counts.sum(axis=0), 1)
    filled = np.zeros((folds, counts.shape[1]))
    having = np.zeros((folds, counts.shape[1]), np.int64)
    held = np.zeros(folds, np.int64)
    assignment: dict[str, int] = {}
    for place, one in enumerate(order):
        fold = _best_fold(filled, having, held, fraction[one], len(order) - place)
        filled[fold] += fraction[one]
        having[fold] += counts[one] > 0
        held[fold] += 1
        assignment[str(names[one])] = fold
    if not (having > 0).all():
        raise DataError(
            f"{folds} folds cannot all hold every class with these patients; use"
            f" {max(2, folds - 1)} folds or fewer, or another seed"
        )
    return dict(sorted(assignment.items()))


def tally(
    groups: NDArray[np.str_], labels: NDArray[np.int64]
) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """The names (G,) of the groups, sorted, and their rows by class (G, C); both given are (N,)."""
    names, owner = np.unique(groups, return_inverse=True)
    classes = int(labels.max()) + 1 if len(labels) else 0
    counts = np.zeros((len(names), classes), np.int64)
    np.add.at(counts, (owner, labels), 1)
    return names, counts


def _best_fold(
    filled: NDArray[np.float64],
    having: NDArray[np.int64],
    held: NDArray[np.int64],
    fraction: NDArray[np.float64],
    left: int,
) -> int:
    """The fold that stays most even with `fraction` more; an empty one when few patients are left."""
    folds = range(len(filled))
    empty = [fold for fold in folds if held[fold] == 0]
    lacking = [fold for fold in folds if ((having[fold] == 0) & (fraction > 0)).any()]
    open_to = empty if len(empty) >= left else (lacking or list(folds))

    def unevenness(fold: int) -> tuple[float, int, int]:
        after = filled[fold] + fraction
        before = filled[fold]
        return float((after**2 - before**2).sum()), int(held[fold]), fold

    return min(open_to, key=unevenness)


def named(class_names: Sequence[str], label: int) -> str:
    """A class as messages call it: by its name, where that is known."""
    return f"class {class_names[label]!r}" if label < len(class_names) else f"class {label}"


def _reject_few(counts: NDArray[np.int64], folds: int, class_names: Sequence[str]) -> None:
    if folds < 2:
        raise DataError(f"{folds} folds: at least 2 are needed to learn from one and judge another")
    if len(counts) < folds:
        raise DataError(
            f"{len(counts)} patients for {folds} folds: a fold holds at least one; use"
            f" {len(counts)} folds or fewer"
        )
    with_class = (counts > 0).sum(axis=0)
    least = int(with_class.min())
    if least < folds:
        raise DataError(
            f"{named(class_names, int(with_class.argmin()))} is in {least} patients only, and"
            f" {folds} folds need it in {folds}; "
            + (f"use {least} folds" if least >= 2 else "add patients with it")
        )


def take_fraction(
    groups: NDArray[np.str_], labels: NDArray[np.int64], learned: NDArray[np.int64], fraction: float
) -> NDArray[np.int64]:
    """Those of the rows `learned` whose groups are in a `fraction` of theirs, in rising order.

    The groups stand in an order of their own, so a smaller share is part of a larger one; more of
    them are taken where a class would be missing. `groups` and `labels` are (N,).
    """
    names, owner = np.unique(groups[learned], return_inverse=True)
    draws = [hashlib.sha256(f"share/{name}".encode()).digest() for name in names.tolist()]
    order = sorted(range(len(names)), key=draws.__getitem__)
    wanted = max(1, round(fraction * len(order)))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    turn = place[owner]
    own = labels[learned]
    firsts = [int(turn[own == one].min()) for one in np.unique(own)]
    return learned[turn < max(wanted, 1 + max(firsts))]


def kfolds(
    patients: NDArray[np.str_],
    labels: NDArray[np.int64],
    folds: int,
    seed: int,
    class_names: Sequence[str] = (),
) -> tuple[Fold, ...]:
    """The folds of `assign_folds`."""
    assignment = assign_folds(patients, labels, folds, seed, class_names)
    judged = [[name for name, held in assignment.items() if held == one] for one in range(folds)]
    return folds_from(list(assignment), judged)


def split_hash(folds: Sequence[Fold]) -> str:
    """The SHA-256 of the folds of a scheme, in hex."""
    text = json.dumps([[one.learn, one.judge] for one in folds], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def fold_indices(
    groups: NDArray[np.str_], folds: Sequence[Fold]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(rows to learn from, rows to judge by) of each of `folds`, both int64 in rising order.

    `groups` is (N,). DataError where one side has no rows, or a group stands on both.
    """
    names, owner = np.unique(groups, return_inverse=True)
    found = []
    for number, fold in enumerate(folds):
        learned, judged = (
            np.flatnonzero(np.isin(names, side)[owner]).astype(np.int64)
            for side in (fold.learn, fold.judge)
        )
        if set(fold.learn) & set(fold.judge) or not len(judged) or not len(learned):
            raise DataError(
                f"fold {number} does not keep groups apart, or has none; the split is damaged or"
                " another set's"
            )
        found.append((learned, judged))
    return found
