"""Labels that contradict one another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.data.patches import Rows

# Where so many patients have one label alone, the label is the patient's, and others are odd.
ONE_LABEL_FRACTION = 0.8
MIN_PATIENTS = 10


@dataclass(frozen=True)
class Mixed:
    """A patient with several labels where nearly all have one, and the rows of each class."""

    patient: str
    by_class: tuple[int, ...]
    rows: tuple[int, ...]


def place_conflicts(rows: Rows) -> tuple[tuple[int, ...], ...]:
    """The rows at one place of one slide, or patient, at one magnification, with several labels."""
    known = np.flatnonzero(~np.isnan(rows.xs) & ~np.isnan(rows.ys))
    if not len(known):
        return ()
    slides = np.where(rows.slides == "", rows.patients, rows.slides)
    numbers = np.unique(slides[known], return_inverse=True)[1]
    place = np.stack(
        [
            numbers.astype(np.float64),
            rows.xs[known],
            rows.ys[known],
            np.nan_to_num(rows.magnifications[known], nan=-1),
        ],
        axis=1,
    )
    owner = np.unique(place, axis=0, return_inverse=True)[1].reshape(-1)
    return _with_several_labels(known.astype(np.int64), owner, rows.labels[known])


def _with_several_labels(
    rows: NDArray[np.int64], owner: NDArray[np.int64], labels: NDArray[np.int64]
) -> tuple[tuple[int, ...], ...]:
    order = np.lexsort((rows, owner))
    starts = np.flatnonzero(np.diff(owner[order], prepend=-1))
    least = np.minimum.reduceat(labels[order], starts)
    most = np.maximum.reduceat(labels[order], starts)
    ends = np.append(starts[1:], len(order))
    return tuple(
        tuple(int(row) for row in rows[order[starts[one] : ends[one]]])
        for one in np.flatnonzero(least != most)
    )


def mixed_patients(rows: Rows) -> tuple[Mixed, ...]:
    """The few patients with several labels, in a set where nearly every one has one alone.

    Only patients with several rows count; none is told where fewer than ten have them.
    """
    names, owner = np.unique(rows.patients, return_inverse=True)
    table = np.zeros((len(names), len(rows.class_names)), np.int64)
    np.add.at(table, (owner, rows.labels), 1)
    several = table.sum(axis=1) > 1
    mixed = (table > 0).sum(axis=1) > 1
    if several.sum() < MIN_PATIENTS or mixed.sum() > (1 - ONE_LABEL_FRACTION) * several.sum():
        return ()
    return tuple(
        Mixed(
            str(names[one]),
            tuple(map(int, table[one])),
            tuple(int(row) for row in np.flatnonzero(owner == one)),
        )
        for one in np.flatnonzero(mixed)
    )
