"""Published figures against the counts that they are said to be of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from raysearch.metrics.classification import mean_of_all
from raysearch.metrics.plausibility import Note, check_coverage

# How often a set may have been counted, where a support is explained.
MAX_TIMES = 3


@dataclass(frozen=True)
class Printed:
    """A figure with the digits that were printed."""

    text: str

    @property
    def value(self) -> float:
        """The figure."""
        return float(self.text)

    @property
    def digits(self) -> int:
        """How many digits stand after the point."""
        return len(self.text.partition(".")[2])

    def is_of(self, low: float, high: float | None = None) -> bool:
        """Whether some value from `low` to `high` is printed like this."""
        half = 0.5 * 10.0**-self.digits + 1e-9
        return low - half <= self.value <= (low if high is None else high) + half


def check_support(
    support: Mapping[str, int], rows: int, others: Mapping[str, int], name: str = "the set"
) -> list[Note]:
    """Whether `support`, by class, adds up to the `rows` of the set `name` that was judged.

    Where it does not, the sum of `others`, sets by their sizes, and of itself that it is.
    """
    whole = sum(support.values())
    if whole == rows:
        return []
    text = f"the support, {whole:,}, {'exceeds' if whole > rows else 'is less than'} the {rows:,}"
    text += f" rows of {name}"
    sets = [*others.items(), (name, rows)]
    for times in sorted(product(range(MAX_TIMES), repeat=len(sets)), key=sum):
        if sum(often * size for often, (_one, size) in zip(times, sets, strict=True)) == whole:
            parts = [
                one if often == 1 else f"{often} x {one}"
                for often, (one, _size) in zip(times, sets, strict=True)
                if often
            ]
            return [Note(f"{text}: it is {' + '.join(parts)}", wrong=True)]
    return [Note(text, wrong=True)]


def check_fraction(name: str, claimed: Printed, count: int, of: int) -> list[Note]:
    """Whether `count` of `of` is printed as `claimed`."""
    if not of:
        return [Note(f"{name}: {claimed.text} of no rows at all is undefined", wrong=True)]
    if claimed.is_of(count / of):
        return []
    digits = max(claimed.digits, 3)
    return [
        Note(
            f"{name}: {count:,}/{of:,} is {count / of:.{digits}f}, and {claimed.text} is claimed",
            wrong=True,
        )
    ]


def check_f1(name: str, precision: Printed, recall: Printed, f1: Printed) -> list[Note]:
    """Whether `f1` can be the harmonic mean of what `precision` and `recall` are printed as."""
    halves = [0.5 * 10.0**-one.digits for one in (precision, recall)]
    low = _harmonic(precision.value - halves[0], recall.value - halves[1])
    high = _harmonic(precision.value + halves[0], recall.value + halves[1])
    if f1.is_of(low, high):
        return []
    middle = _harmonic(precision.value, recall.value)
    return [
        Note(
            f"{name}: precision {precision.text} and recall {recall.text} make an F1 of"
            f" {middle:.{max(f1.digits, 2)}f}, and {f1.text} is claimed",
            wrong=True,
        )
    ]


def _harmonic(precision: float, recall: float) -> float:
    total = precision + recall
    return 2 * precision * recall / total if total > 0 else 0.0


def check_confident(table: Mapping[float, Mapping[str, Printed]]) -> list[Note]:
    """Whether coverage falls with the confidence, and no row repeats the figures of another.

    `table` has `covered` and measures of what is covered, by confidence.
    """
    covered = [
        (one, row["covered"].value) for one, row in sorted(table.items()) if "covered" in row
    ]
    notes = check_coverage(covered)
    for (before, first), (after, second) in combinations(sorted(table.items()), 2):
        shared = sorted((first.keys() & second.keys()) - {"covered"})
        same = len(shared) > 1 and all(first[one].text == second[one].text for one in shared)
        if same and any(first[one].value < 1 for one in shared):
            figures = ", ".join(f"{one} {first[one].text}" for one in shared)
            notes.append(
                Note(f"the row at {after:g} repeats that at {before:g}: {figures}", wrong=True)
            )
    return notes


def figures_of(counts: NDArray[np.int64], names: Sequence[str]) -> dict[str, float | None]:
    """What the confusion matrix `counts` (C, C), rows of true classes, says: overall and by class.

    Undefined is None.
    """
    right, true, said = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    rows = int(counts.sum())
    found: dict[str, float | None] = {"accuracy": _fraction(int(right.sum()), rows)}
    by_class: dict[str, list[float | None]] = {"precision": [], "recall": [], "f1": []}
    for place, name in enumerate(names):
        own = {
            "precision": _fraction(int(right[place]), int(said[place])),
            "recall": _fraction(int(right[place]), int(true[place])),
            "f1": _fraction(2 * int(right[place]), int(true[place] + said[place])),
        }
        found |= {f"{metric}_{name}": value for metric, value in own.items()}
        for metric, value in own.items():
            by_class[metric].append(value)
    found |= {f"macro_{metric}": mean_of_all(values) for metric, values in by_class.items()}
    found["balanced_accuracy"] = found["macro_recall"]
    return found


def check_confusion(
    counts: NDArray[np.int64], names: Sequence[str], claims: Mapping[str, Printed]
) -> list[Note]:
    """Whether what is claimed, by the names of `figures_of`, is what the matrix says."""
    known, notes = figures_of(counts, names), []
    for name, claimed in claims.items():
        value = known.get(name)
        if name in known and (value is None or not claimed.is_of(value)):
            said = "undefined" if value is None else f"{value:.{max(claimed.digits, 3)}f}"
            notes.append(
                Note(f"{name}: the matrix says {said}, and {claimed.text} is claimed", wrong=True)
            )
    fraction = int(counts.sum(axis=1).max()) / max(int(counts.sum()), 1)
    own = known["accuracy"]
    if own is not None and own <= fraction:
        notes.append(
            Note(f"accuracy {own:.3f} is not above {fraction:.3f}, of who always says one class")
        )
    return notes


def _fraction(part: int, whole: int) -> float | None:
    return part / whole if whole else None
