"""Checks of reported values against the counts that they are computed from."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raysearch.metrics.reported_values import (
    ReportedValue,
    check_confidence_table,
    check_confusion,
    check_f1,
    check_fraction,
    check_support,
    reported_metrics,
)

CONFUSION_MATRICES = st.lists(
    st.lists(st.integers(0, 500), min_size=3, max_size=3), min_size=3, max_size=3
).filter(lambda rows: all(map(sum, rows)))


@given(CONFUSION_MATRICES, st.integers(2, 4))
def test_rounded_values_of_real_counts_are_never_errors(rows: list[list[int]], digits: int) -> None:
    counts, names = np.array(rows), ["a", "b", "c"]
    reported = {
        name: ReportedValue(f"{value:.{digits}f}")
        for name, value in reported_metrics(counts, names).items()
        if value is not None
    }
    assert not [note for note in check_confusion(counts, names, reported) if note.is_error]
    for index, name in enumerate(names):
        if f"f1_{name}" in reported and f"precision_{name}" in reported:
            values = (reported[f"{metric}_{name}"] for metric in ("precision", "recall", "f1"))
            assert check_f1(name, *values) == []
        count, total = int(counts[index, index]), int(counts.sum())
        value = ReportedValue(f"{count / total:.{digits}f}")
        assert check_fraction(name, value, count, total) == []
    support = dict(zip(names, counts.sum(axis=1).tolist(), strict=True))
    assert check_support(support, int(counts.sum()), {"train": 7}) == []


def test_a_deviation_of_one_digit_is_an_error() -> None:
    counts, names = np.array([[90, 10], [20, 80]]), ["a", "b"]
    (note,) = check_confusion(counts, names, {"accuracy": ReportedValue("0.86")})
    assert note.text == "accuracy: the confusion matrix gives 0.850, but 0.86 is reported"
    (note,) = check_f1("b", ReportedValue("0.89"), ReportedValue("0.80"), ReportedValue("0.86"))
    assert "give an F1 of 0.84, but 0.86 is reported" in note.text


def test_an_accuracy_like_that_of_the_most_frequent_class_is_noted() -> None:
    counts = np.array([[90, 0], [10, 0]])
    notes = check_confusion(counts, ["a", "b"], {"recall_b": ReportedValue("0.1")})
    assert [note.is_error for note in notes] == [True, False]
    assert "always predicting the most frequent class" in notes[1].text


def test_rows_of_perfect_values_may_repeat() -> None:
    row = {"accuracy": ReportedValue("1.0"), "recall": ReportedValue("1.0")}
    table = {0.99: {**row, "coverage": ReportedValue("0.2")}, 0.999: row}
    assert check_confidence_table(table) == []


def test_a_support_that_exceeds_its_set_is_explained_by_other_sets() -> None:
    (note,) = check_support({"a": 30, "b": 15}, 10, {"train": 25}, "the test set")
    assert note.text == (
        "the support, 45, exceeds the 10 rows of the test set: it is train + 2 x the test set"
    )
    assert note.is_error
