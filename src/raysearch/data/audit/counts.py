"""How many rows there are of everything, and how even they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysearch.data.patches import Rows

COLUMNS = {
    "patient": "patients",
    "slide": "slides",
    "site": "sites",
    "magnification": "magnifications",
    "split": "parts",
}
# A page lists no more values of a column than this, the largest first.
MAX_LISTED = 20


@dataclass(frozen=True)
class Value:
    """One value of a column and its rows of each class."""

    name: str
    by_class: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Its rows of all classes."""
        return sum(self.by_class)


@dataclass(frozen=True)
class Column:
    """How the rows spread over the values of a column.

    `sizes` are the rows of each value, the most first; `fractions`, in the same order, their share of
    the last class. `largest` are the first of them by name; `unknown` rows have no value.
    """

    name: str
    unknown: int
    sizes: NDArray[np.int64]
    fractions: NDArray[np.float64]
    largest: tuple[Value, ...]


def class_counts(rows: Rows) -> tuple[int, ...]:
    """The rows of each class."""
    counts = np.bincount(rows.labels, minlength=len(rows.class_names))
    return tuple(int(count) for count in counts)


def column_counts(rows: Rows) -> tuple[Column, ...]:
    """Every column that any row has a value in."""
    found = []
    for name, attribute in COLUMNS.items():
        values = getattr(rows, attribute)
        if values.dtype.kind == "f":
            known = ~np.isnan(values)
            texts = np.full(len(values), "", "U12")
            texts[known] = values[known].astype(np.int64).astype(np.str_)
            values = texts
        if (values != "").any():
            found.append(_column(name, values, rows))
    return tuple(found)


def _column(name: str, values: NDArray[np.str_], rows: Rows) -> Column:
    known = values != ""
    names, owner = np.unique(values[known], return_inverse=True)
    table = np.zeros((len(names), len(rows.class_names)), np.int64)
    np.add.at(table, (owner, rows.labels[known]), 1)
    sizes = table.sum(axis=1)
    order = np.argsort(-sizes, kind="stable")
    return Column(
        name,
        int((~known).sum()),
        sizes[order],
        table[order, -1] / sizes[order],
        tuple(Value(str(names[one]), tuple(map(int, table[one]))) for one in order[:MAX_LISTED]),
    )
