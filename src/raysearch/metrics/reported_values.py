"""Checks values that a publication reports against the counts that they are computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

from raysearch.metrics.bootstrap import Ints
from raysearch.metrics.classification import MetricValues, confusion_metrics
from raysearch.metrics.plausibility import PlausibilityNote, check_coverage

# A support may count a set several times; larger multiples are no explanation.
MAX_MULTIPLES = 3
# The number of combinations grows exponentially with the number of sets.
MAX_EXPLAINED_SETS = 8
REPORTED_CLASS_METRICS = ("precision", "recall", "f1")


@dataclass(frozen=True)
class ReportedValue:
    """A value as a publication prints it, with its number of digits."""

    text: str

    @property
    def value(self) -> float:
        """The printed value."""
        return float(self.text)

    @property
    def digits(self) -> int:
        """The number of digits after the decimal point."""
        return len(self.text.partition(".")[2])

    @property
    def rounding_error(self) -> float:
        """Half a unit of the last digit."""
        return 0.5 * 10.0**-self.digits

    def matches(self, low: float, high: float | None = None) -> bool:
        """Return whether `low`, or some value from `low` to `high`, is rounded to this value."""
        tolerance = self.rounding_error + 1e-9
        return low - tolerance <= self.value <= (low if high is None else high) + tolerance


def check_support(
    support: Mapping[str, int],
    num_rows: int,
    other_sets: Mapping[str, int],
    name: str = "the set",
) -> list[PlausibilityNote]:
    """Check that the support adds up to the rows of the evaluated set.

    If it does not, the note names the sum of sets that explains it, if there is one.

    Args:
        support: Reported support of each class.
        num_rows: Rows of the evaluated set.
        other_sets: Rows of the publication's other sets.
        name: How notes name the evaluated set.
    """
    total = sum(support.values())
    if total == num_rows:
        return []
    relation = "exceeds" if total > num_rows else "is less than"
    text = f"the support, {total:,}, {relation} the {num_rows:,} rows of {name}"
    sets = [*other_sets.items(), (name, num_rows)]
    if len(sets) > MAX_EXPLAINED_SETS:
        return [PlausibilityNote(text, is_error=True)]
    for multiples in sorted(product(range(MAX_MULTIPLES), repeat=len(sets)), key=sum):
        terms = list(zip(multiples, sets, strict=True))
        if sum(multiple * size for multiple, (_name, size) in terms) == total:
            explanation = " + ".join(
                set_name if multiple == 1 else f"{multiple} x {set_name}"
                for multiple, (set_name, _size) in terms
                if multiple
            )
            return [PlausibilityNote(f"{text}: it is {explanation}", is_error=True)]
    return [PlausibilityNote(text, is_error=True)]


def check_fraction(
    name: str, reported: ReportedValue, count: int, total: int
) -> list[PlausibilityNote]:
    """Check that `count` / `total` is rounded to the reported value."""
    if not total:
        return [PlausibilityNote(f"{name}: {reported.text} of no rows is undefined", is_error=True)]
    if reported.matches(count / total):
        return []
    digits = max(reported.digits, 3)
    return [
        PlausibilityNote(
            f"{name}: {count:,}/{total:,} is {count / total:.{digits}f}, but {reported.text} is"
            " reported",
            is_error=True,
        )
    ]


def check_f1(
    name: str, precision: ReportedValue, recall: ReportedValue, f1: ReportedValue
) -> list[PlausibilityNote]:
    """Check that `f1` can be the harmonic mean of values that are rounded to the other two."""
    low = _harmonic_mean(
        precision.value - precision.rounding_error, recall.value - recall.rounding_error
    )
    high = _harmonic_mean(
        precision.value + precision.rounding_error, recall.value + recall.rounding_error
    )
    if f1.matches(low, high):
        return []
    expected = _harmonic_mean(precision.value, recall.value)
    return [
        PlausibilityNote(
            f"{name}: precision {precision.text} and recall {recall.text} give an F1 of"
            f" {expected:.{max(f1.digits, 2)}f}, but {f1.text} is reported",
            is_error=True,
        )
    ]


def _harmonic_mean(precision: float, recall: float) -> float:
    total = precision + recall
    return 2 * precision * recall / total if total > 0 else 0.0


def check_confidence_table(
    table: Mapping[float, Mapping[str, ReportedValue]],
) -> list[PlausibilityNote]:
    """Check that coverage falls with confidence, and that no row repeats another one.

    Args:
        table: By confidence, the reported coverage, named `coverage`, and metrics of the selected
            rows.
    """
    coverage = [
        (confidence, row["coverage"].value)
        for confidence, row in sorted(table.items())
        if "coverage" in row
    ]
    notes = check_coverage(coverage)
    for (low, low_row), (high, high_row) in combinations(sorted(table.items()), 2):
        metrics = sorted((low_row.keys() & high_row.keys()) - {"coverage"})
        repeated = len(metrics) > 1 and all(
            low_row[metric].text == high_row[metric].text for metric in metrics
        )
        # Rows of perfect values can be equal.
        if repeated and any(low_row[metric].value < 1 for metric in metrics):
            values = ", ".join(f"{metric} {low_row[metric].text}" for metric in metrics)
            notes.append(
                PlausibilityNote(
                    f"the row at confidence {high:g} repeats that at {low:g}: {values}",
                    is_error=True,
                )
            )
    return notes


def reported_metrics(confusion: Ints, class_names: Sequence[str]) -> MetricValues:
    """Compute the metrics that publications report from a confusion matrix.

    Args:
        confusion: Counts, shape (C, C); rows are true classes, columns predicted ones.
        class_names: Names of the C classes.

    Returns:
        Accuracy, METRIC_CLASS, macro_METRIC and balanced accuracy; None if undefined.
    """
    values = confusion_metrics(confusion, class_names)
    names = [
        "accuracy",
        *(f"{metric}_{name}" for name in class_names for metric in REPORTED_CLASS_METRICS),
        *(f"macro_{metric}" for metric in REPORTED_CLASS_METRICS),
    ]
    return {**{name: values[name] for name in names}, "balanced_accuracy": values["macro_recall"]}


def check_confusion(
    confusion: Ints, class_names: Sequence[str], reported: Mapping[str, ReportedValue]
) -> list[PlausibilityNote]:
    """Check reported values, by the names of `reported_metrics`, against a confusion matrix.

    A note also says if the accuracy is not above that of always predicting the most frequent class.
    """
    values = reported_metrics(confusion, class_names)
    notes = []
    for name, reported_value in reported.items():
        value = values.get(name)
        if name in values and (value is None or not reported_value.matches(value)):
            digits = max(reported_value.digits, 3)
            computed = "undefined" if value is None else f"{value:.{digits}f}"
            notes.append(
                PlausibilityNote(
                    f"{name}: the confusion matrix gives {computed}, but {reported_value.text} is"
                    " reported",
                    is_error=True,
                )
            )
    most_frequent = int(confusion.sum(axis=1).max()) / max(int(confusion.sum()), 1)
    accuracy = values["accuracy"]
    if accuracy is not None and accuracy <= most_frequent:
        notes.append(
            PlausibilityNote(
                f"accuracy {accuracy:.3f} is not above {most_frequent:.3f}, that of always"
                " predicting the most frequent class"
            )
        )
    return notes
