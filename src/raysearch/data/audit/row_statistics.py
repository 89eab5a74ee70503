"""Counts the rows of a set by class and by column, and finds labels that contradict each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.data.shards.rows import Rows

# Name of a column -> the attribute of `Rows` that holds it.
COLUMNS = {
    "patient": "patients",
    "slide": "slides",
    "site": "sites",
    "magnification": "magnifications",
    "split": "official_splits",
}
# A page lists at most this many values of a column, those with the most rows first.
MAX_LISTED = 20
# If at least this fraction of the patients have a single label, a patient with several is reported.
MIN_SINGLE_LABEL_FRACTION = 0.8
MIN_MULTI_ROW_PATIENTS = 10


@dataclass(frozen=True)
class ValueCounts:
    """One value of a column and its number of rows of each class."""

    name: str
    by_class: tuple[int, ...]

    @property
    def num_rows(self) -> int:
        """The number of rows of all classes."""
        return sum(self.by_class)


@dataclass(frozen=True)
class ColumnCounts:
    """The distribution of the rows over the values of a column.

    Attributes:
        name: Name of the column.
        num_missing: Number of rows without a value.
        sizes: Number of rows of each value, descending, shape (V,).
        last_class_fractions: Fraction of each value's rows in the last class, shape (V,).
        largest: The first `MAX_LISTED` values with their counts.
    """

    name: str
    num_missing: int
    sizes: NDArray[np.int64]
    last_class_fractions: NDArray[np.float64]
    largest: tuple[ValueCounts, ...]


@dataclass(frozen=True)
class MixedPatient:
    """A patient with several labels, the number of rows of each class and the row numbers."""

    patient: str
    by_class: tuple[int, ...]
    rows: tuple[int, ...]


def class_counts(rows: Rows) -> tuple[int, ...]:
    """Return the number of rows of each class."""
    counts = np.bincount(rows.labels, minlength=len(rows.class_names))
    return tuple(int(count) for count in counts)


def column_counts(rows: Rows) -> tuple[ColumnCounts, ...]:
    """Return the distribution of every column in which at least one row has a value."""
    columns = []
    for name, attribute in COLUMNS.items():
        values = getattr(rows, attribute)
        if values.dtype.kind == "f":
            present = ~np.isnan(values)
            texts = np.full(len(values), "", "U12")
            texts[present] = values[present].astype(np.int64).astype(np.str_)
            values = texts
        if (values != "").any():
            columns.append(_count_column(name, values, rows))
    return tuple(columns)


def _count_column(name: str, values: NDArray[np.str_], rows: Rows) -> ColumnCounts:
    present = values != ""
    names, value_indices = np.unique(values[present], return_inverse=True)
    table = _class_table(value_indices, rows.labels[present], len(names), len(rows.class_names))
    sizes = table.sum(axis=1)
    order = np.argsort(-sizes, kind="stable")
    return ColumnCounts(
        name,
        int((~present).sum()),
        sizes[order],
        table[order, -1] / sizes[order],
        tuple(
            ValueCounts(str(names[index]), tuple(map(int, table[index])))
            for index in order[:MAX_LISTED]
        ),
    )


def _class_table(
    value_indices: NDArray[np.int64], labels: NDArray[np.int64], num_values: int, num_classes: int
) -> NDArray[np.int64]:
    """Count the rows of each value and class, shape (num_values, num_classes)."""
    table = np.zeros((num_values, num_classes), np.int64)
    np.add.at(table, (value_indices, labels), 1)
    return table


def position_conflicts(rows: Rows) -> tuple[tuple[int, ...], ...]:
    """Return the rows of each position that has several labels.

    A position is an (x, y) of one slide at one magnification. If a row has no slide, its patient
    takes the slide's place.
    """
    located = np.flatnonzero(~np.isnan(rows.xs) & ~np.isnan(rows.ys))
    if not len(located):
        return ()
    slides = np.where(rows.slides == "", rows.patients, rows.slides)
    slide_indices = np.unique(slides[located], return_inverse=True)[1]
    positions = np.stack(
        [
            slide_indices.astype(np.float64),
            rows.xs[located],
            rows.ys[located],
            np.nan_to_num(rows.magnifications[located], nan=-1),
        ],
        axis=1,
    )
    position_indices = np.unique(positions, axis=0, return_inverse=True)[1].reshape(-1)
    return _with_several_labels(located.astype(np.int64), position_indices, rows.labels[located])


def _with_several_labels(
    rows: NDArray[np.int64], position_indices: NDArray[np.int64], labels: NDArray[np.int64]
) -> tuple[tuple[int, ...], ...]:
    order = np.lexsort((rows, position_indices))
    starts = np.flatnonzero(np.diff(position_indices[order], prepend=-1))
    min_labels = np.minimum.reduceat(labels[order], starts)
    max_labels = np.maximum.reduceat(labels[order], starts)
    ends = np.append(starts[1:], len(order))
    return tuple(
        tuple(int(row) for row in rows[order[starts[index] : ends[index]]])
        for index in np.flatnonzero(min_labels != max_labels)
    )


def mixed_patients(rows: Rows) -> tuple[MixedPatient, ...]:
    """Return the patients with several labels, if nearly all patients have a single one.

    Only patients with several rows count. The result is empty if fewer than
    `MIN_MULTI_ROW_PATIENTS` patients have several rows.
    """
    names, patient_indices = np.unique(rows.patients, return_inverse=True)
    table = _class_table(patient_indices, rows.labels, len(names), len(rows.class_names))
    num_multi_row = (table.sum(axis=1) > 1).sum()
    is_mixed = (table > 0).sum(axis=1) > 1
    max_mixed = (1 - MIN_SINGLE_LABEL_FRACTION) * num_multi_row
    if num_multi_row < MIN_MULTI_ROW_PATIENTS or is_mixed.sum() > max_mixed:
        return ()
    return tuple(
        MixedPatient(
            str(names[index]),
            tuple(map(int, table[index])),
            tuple(int(row) for row in np.flatnonzero(patient_indices == index)),
        )
        for index in np.flatnonzero(is_mixed)
    )
