"""Cross-validation folds that keep each group in one fold and distribute the classes evenly.

A split must stay the same when libraries change, so this module does not use scikit-learn: the
folds depend only on the group names, their class counts, the number of folds and the seed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raysearch.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Fold:
    """The training groups and the validation groups of a fold, each sorted by name."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


def build_folds(groups: Sequence[str], validation: Iterable[Iterable[str]]) -> tuple[Fold, ...]:
    """Build a fold for each set of validation groups; the other `groups` are for training."""
    validation_sets = [set(names) for names in validation]
    return tuple(
        Fold(tuple(name for name in groups if name not in names), tuple(sorted(names)))
        for names in validation_sets
    )


def assign_folds(
    groups: NDArray[np.str_],
    labels: NDArray[np.int64],
    num_folds: int,
    seed: int,
    class_names: Sequence[str] = (),
) -> dict[str, int]:
    """Assign each group to a fold, stratified by class.

    The groups are assigned greedily, in order of decreasing number of rows, but all groups with
    the rarest class first. Each group goes to the fold for which the sum of the squared class
    fractions increases least.

    Args:
        groups: Group of each row, shape (N,).
        labels: Class of each row, shape (N,).
        num_folds: Number of folds, at least 2.
        seed: Decides the order of groups with equally many rows.
        class_names: Names of the classes, for error messages.

    Returns:
        The fold, 0 to `num_folds` - 1, of each group, sorted by name.

    Raises:
        DataError: If there are fewer groups than folds, or fewer groups with a class than folds:
            a validation set would lack that class.
    """
    import numpy as np

    names, counts = class_counts_by_group(groups, labels)
    _reject_too_few_groups(counts, num_folds, class_names)
    tie_breaks = [hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in names.tolist()]
    order = sorted(range(len(names)), key=lambda group: (-counts[group].sum(), tie_breaks[group]))
    rarest_class = int(np.argmin((counts > 0).sum(axis=0)))
    order.sort(key=lambda group: counts[group, rarest_class] == 0)  # a stable sort
    fractions = counts / np.maximum(counts.sum(axis=0), 1)
    folds = _FoldSums.empty(num_folds, counts.shape[1])
    assignment: dict[str, int] = {}
    for position, group in enumerate(order):
        fold = folds.best_fold(fractions[group], num_remaining=len(order) - position)
        folds.add(fold, fractions[group])
        assignment[str(names[group])] = fold
    if not (folds.groups_with_class > 0).all():
        raise DataError(
            f"{num_folds} folds cannot all contain every class with these patients; use"
            f" {max(2, num_folds - 1)} folds or fewer, or another seed"
        )
    return dict(sorted(assignment.items()))


@dataclass(frozen=True)
class _FoldSums:
    """Running sums over the groups that are already assigned to each fold.

    `fractions` (folds, classes) is the fraction of all rows of a class; `groups_with_class`
    (folds, classes) and `groups` (folds,) are numbers of groups.
    """

    fractions: NDArray[np.float64]
    groups_with_class: NDArray[np.int64]
    groups: NDArray[np.int64]

    @classmethod
    def empty(cls, num_folds: int, num_classes: int) -> _FoldSums:
        """The sums before any group is assigned."""
        import numpy as np

        shape = (num_folds, num_classes)
        return cls(np.zeros(shape), np.zeros(shape, np.int64), np.zeros(num_folds, np.int64))

    def add(self, fold: int, fractions: NDArray[np.float64]) -> None:
        """Add a group with the class `fractions`, shape (classes,), to `fold`."""
        self.fractions[fold] += fractions
        self.groups_with_class[fold] += fractions > 0
        self.groups[fold] += 1

    def best_fold(self, fractions: NDArray[np.float64], num_remaining: int) -> int:
        """The fold that becomes least uneven if a group with the class `fractions` is added.

        If no more groups remain than there are empty folds, only an empty fold is chosen; else a
        fold that lacks one of the group's classes is preferred.
        """
        folds = range(len(self.groups))
        empty = [fold for fold in folds if self.groups[fold] == 0]
        lacking_class = [
            fold for fold in folds if ((self.groups_with_class[fold] == 0) & (fractions > 0)).any()
        ]
        candidates = empty if len(empty) >= num_remaining else (lacking_class or list(folds))

        def unevenness(fold: int) -> tuple[float, int, int]:
            old, new = self.fractions[fold], self.fractions[fold] + fractions
            return float((new**2 - old**2).sum()), int(self.groups[fold]), fold

        return min(candidates, key=unevenness)


def class_counts_by_group(
    groups: NDArray[np.str_], labels: NDArray[np.int64]
) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """Count the rows of each class in each group.

    Args:
        groups: Group of each row, shape (N,).
        labels: Class of each row, shape (N,).

    Returns:
        The sorted group names, shape (groups,), and the counts, shape (groups, classes).
    """
    import numpy as np

    names, group_indices = np.unique(groups, return_inverse=True)
    num_classes = int(labels.max()) + 1 if len(labels) else 0
    counts = np.zeros((len(names), num_classes), np.int64)
    np.add.at(counts, (group_indices, labels), 1)
    return names, counts


def class_text(class_names: Sequence[str], label: int) -> str:
    """A class as error messages refer to it: by its name, or by its number if it has no name."""
    return f"class {class_names[label]!r}" if label < len(class_names) else f"class {label}"


def _reject_too_few_groups(
    counts: NDArray[np.int64], num_folds: int, class_names: Sequence[str]
) -> None:
    if num_folds < 2:
        raise DataError(f"{num_folds} folds: cross-validation needs at least 2")
    if len(counts) < num_folds:
        raise DataError(
            f"{len(counts)} patients for {num_folds} folds: each fold needs at least one; use"
            f" {len(counts)} folds or fewer"
        )
    groups_with_class = (counts > 0).sum(axis=0)
    fewest = int(groups_with_class.min())
    if fewest < num_folds:
        raise DataError(
            f"{class_text(class_names, int(groups_with_class.argmin()))} is in {fewest} patients"
            f" only, and {num_folds} folds need it in {num_folds}; "
            + (f"use {fewest} folds" if fewest >= 2 else "add patients with it")
        )


def take_fraction(
    groups: NDArray[np.str_],
    labels: NDArray[np.int64],
    train_indices: NDArray[np.int64],
    fraction: float,
) -> NDArray[np.int64]:
    """Select the training rows that belong to a `fraction` of the training groups.

    The groups have a fixed pseudo-random order, so a smaller fraction is a subset of a larger one.
    If a class would be missing, more groups are taken until every class is present.

    Args:
        groups: Group of each row, shape (N,).
        labels: Class of each row, shape (N,).
        train_indices: Training rows, in increasing order.
        fraction: Fraction of the training groups, above 0 and at most 1.

    Returns:
        The selected `train_indices`, in increasing order.
    """
    import numpy as np

    names, group_indices = np.unique(groups[train_indices], return_inverse=True)
    sort_keys = [hashlib.sha256(f"share/{name}".encode()).digest() for name in names.tolist()]
    order = sorted(range(len(names)), key=sort_keys.__getitem__)
    num_groups = max(1, round(fraction * len(order)))
    rank_of_group = np.empty(len(order), np.int64)
    rank_of_group[order] = np.arange(len(order))
    ranks = rank_of_group[group_indices]
    train_labels = labels[train_indices]
    first_ranks = [int(ranks[train_labels == label].min()) for label in np.unique(train_labels)]
    return train_indices[ranks < max(num_groups, 1 + max(first_ranks))]


def stratified_group_kfold(
    groups: NDArray[np.str_],
    labels: NDArray[np.int64],
    num_folds: int,
    seed: int,
    class_names: Sequence[str] = (),
) -> tuple[Fold, ...]:
    """Divide the groups into folds by `assign_folds`, which has the same arguments."""
    assignment = assign_folds(groups, labels, num_folds, seed, class_names)
    validation = [
        [name for name, assigned in assignment.items() if assigned == fold]
        for fold in range(num_folds)
    ]
    return build_folds(list(assignment), validation)


def groups_of(splits: Mapping[int, Sequence[Fold]]) -> set[str]:
    """Return the groups that the folds of any split scheme train or validate on."""
    return {
        group
        for folds in splits.values()
        for fold in folds
        for group in (*fold.train, *fold.validation)
    }


def split_hash(folds: Sequence[Fold]) -> str:
    """The SHA-256, in hex, of the groups of the folds of a split scheme."""
    text = json.dumps([[fold.train, fold.validation] for fold in folds], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def fold_indices(
    groups: NDArray[np.str_], folds: Sequence[Fold]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Find the rows of each fold.

    Args:
        groups: Group of each row, shape (N,).
        folds: The folds of one split scheme.

    Returns:
        (train indices, validation indices) of each fold, in increasing order.

    Raises:
        DataError: If one of the two has no rows, or a group is in both.
    """
    import numpy as np

    names, group_indices = np.unique(groups, return_inverse=True)
    indices = []
    for number, fold in enumerate(folds):
        train_indices, val_indices = (
            np.flatnonzero(np.isin(names, side)[group_indices]).astype(np.int64)
            for side in (fold.train, fold.validation)
        )
        overlap = set(fold.train) & set(fold.validation)
        if overlap or not len(val_indices) or not len(train_indices):
            raise DataError(
                f"fold {number} has the same group in train and validation, or no rows in one of"
                " them; the split is damaged, or belongs to other shards"
            )
        indices.append((train_indices, val_indices))
    return indices
