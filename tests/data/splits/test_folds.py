"""Folds are grouped, stratified, and the same for ever."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from raysearch.data.splits.folds import (
    Fold,
    assign_folds,
    fold_indices,
    split_hash,
    stratified_group_kfold,
    take_fraction,
)
from raysearch.errors import DataError
from support.split_rows import cohort

# Patients and labels of the rows, and a number of folds.
Table = tuple[NDArray[np.str_], NDArray[np.int64], int]

PINNED_FOLDS = "fc2ba2baf2d1895b5dc2e74207fa0f57be41a710001994dcf03eb417fc596416"
PINNED_ASSIGNMENT = "77e229071704d3bcb3e3b59ad434e52a0cbc9a26216c1c5707b387aca32f9faf"


@st.composite
def patient_tables(draw: st.DrawFn) -> Table:
    num_patients = draw(st.integers(4, 30))
    sizes = draw(st.lists(st.integers(1, 40), min_size=num_patients, max_size=num_patients))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    patients = np.repeat(np.arange(num_patients), sizes)
    labels = (rng.random(len(patients)) < rng.random(num_patients)[patients]).astype(np.int64)
    return np.array([f"p{patient}" for patient in patients]), labels, draw(st.integers(2, 6))


@given(patient_tables(), st.integers(0, 100))
def test_folds_are_grouped_by_patient_and_contain_every_class_or_are_rejected(
    table: Table, seed: int
) -> None:
    patients, labels, num_folds = table
    try:
        folds = stratified_group_kfold(patients, labels, num_folds, seed)
    except DataError as error:
        assert "use" in str(error) or "add" in str(error)  # noqa: PT017 both outcomes are right
        return
    num_validations = np.zeros(len(labels), int)
    for train_indices, val_indices in fold_indices(patients, folds):
        assert not set(patients[train_indices]) & set(patients[val_indices])
        assert set(labels[val_indices]) == set(labels)
        num_validations[val_indices] += 1
    assert (num_validations == 1).all()


@given(patient_tables())
def test_folds_do_not_depend_on_the_order_of_the_rows(table: Table) -> None:
    patients, labels, num_folds = table
    order = np.random.default_rng(0).permutation(len(labels))
    try:
        assignment = assign_folds(patients, labels, num_folds, 1)
    except DataError:
        return
    assert assign_folds(patients[order], labels[order], num_folds, 1) == assignment


def test_folds_are_even_in_size_and_in_classes() -> None:
    rng = np.random.default_rng(0)
    numbers = np.sort(rng.integers(0, 200, 20_000))
    labels = (rng.random(20_000) < rng.beta(2, 5, 200)[numbers]).astype(np.int64)
    patients = np.array([f"p{number}" for number in numbers])
    folds = stratified_group_kfold(patients, labels, 5, 0)
    for _train_indices, val_indices in fold_indices(patients, folds):
        assert abs(len(val_indices) / 4000 - 1) < 0.02
        assert abs(labels[val_indices].mean() / labels.mean() - 1) < 0.02


def test_folds_are_the_same_for_ever() -> None:
    patients = np.array([f"p{number}" for number in np.repeat(np.arange(12), 10)])
    labels = np.tile([0, 0, 1], 40)
    text = json.dumps(assign_folds(patients, labels, 3, 7), separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == PINNED_ASSIGNMENT
    assert split_hash(stratified_group_kfold(patients, labels, 3, 7)) == PINNED_FOLDS
    assert split_hash(stratified_group_kfold(patients, labels, 3, 8)) != PINNED_FOLDS


@pytest.mark.parametrize(
    ("labels_by_patient", "num_folds", "message"),
    [
        ({"a": "01", "b": "01"}, 3, "2 patients for 3 folds.*use 2 folds or fewer"),
        ({"a": "01", "b": "01", "c": "00"}, 3, "class 1 is in 2 patients only.*use 2 folds"),
        ({"a": "01", "b": "00"}, 2, "class 1 is in 1 patients only.*add patients"),
        ({"a": "01", "b": "01"}, 1, "at least 2"),
    ],
)
def test_too_few_patients_are_rejected_with_a_number_that_works(
    labels_by_patient: dict[str, str], num_folds: int, message: str
) -> None:
    patients = np.array([name for name, labels in labels_by_patient.items() for _ in labels])
    labels = np.array([int(digit) for text in labels_by_patient.values() for digit in text])
    with pytest.raises(DataError, match=message):
        assign_folds(patients, labels, num_folds, 0)


@pytest.mark.parametrize("fold", [Fold(("a",), ("c",)), Fold((), ("a",)), Fold(("a", "b"), ("b",))])
def test_a_fold_of_other_shards_or_with_a_patient_on_both_sides_is_rejected(fold: Fold) -> None:
    with pytest.raises(DataError, match="damaged, or belongs to other shards"):
        fold_indices(np.array(["a", "b"]), [fold])


@given(st.integers(0, 30))
def test_a_fraction_of_the_patients_is_in_every_larger_one_and_has_every_class(seed: int) -> None:
    rows = cohort(40, seed)
    train_indices = np.flatnonzero(rows.patients > "p0009")
    selections = {
        fraction: take_fraction(rows.patients, rows.labels, train_indices, fraction)
        for fraction in (0.1, 0.5, 1.0)
    }
    assert set(selections[0.1]) <= set(selections[0.5]) <= set(selections[1.0])
    assert np.array_equal(selections[1.0], train_indices)
    assert len(np.unique(rows.patients[selections[0.5]])) == 15
    for selection in selections.values():
        assert set(rows.labels[selection].tolist()) == {0, 1}
        of_selected_patients = np.isin(rows.patients[train_indices], rows.patients[selection])
        assert np.array_equal(train_indices[of_selected_patients], selection)
