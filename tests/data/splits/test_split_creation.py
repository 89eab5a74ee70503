"""The held-out test set is selected once, and is in no fold of any scheme."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysearch.config.names import kfold_name
from raysearch.data.files import Folder
from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.rows import View, load_rows
from raysearch.data.splits.split_creation import (
    SplitSpec,
    choose_groups,
    choose_test_patients,
    create_split_manifest,
    held_out_patients,
    load_or_create_split_manifest,
)
from raysearch.errors import DataError
from support.split_rows import cohort, make_rows


@given(st.integers(60, 130), st.integers(0, 50))
def test_each_group_is_on_one_side_and_held_out_groups_are_in_no_fold(
    num_patients: int, seed: int
) -> None:
    rows = cohort(num_patients, seed)
    split_manifest = create_split_manifest(
        rows, "label", SplitSpec(folds=(3, 5), holdouts=(2, 0.2), seed=seed)
    )
    assert len(split_manifest.held_out) == round(0.15 * num_patients)
    in_folds = set(rows.patients.tolist()) - set(split_manifest.held_out)
    for scheme, folds in split_manifest.schemes.items():
        for fold in folds:
            assert not set(fold.train) & set(fold.validation)
            assert set(fold.train) | set(fold.validation) == in_folds
        if scheme.endswith("-fold"):
            validation = [group for fold in folds for group in fold.validation]
            assert sorted(validation) == sorted(in_folds)
    assert all(min(counts) > 0 for counts in split_manifest.counts.values())


@given(st.integers(0, 20))
def test_a_split_manifest_does_not_depend_on_the_order_of_the_rows(seed: int) -> None:
    rows = cohort(70)
    order = np.random.default_rng(seed).permutation(len(rows.labels))
    shuffled = make_rows(rows.patients[order].tolist(), rows.labels[order].tolist())
    assert (
        create_split_manifest(rows, "label", SplitSpec()).hash
        == create_split_manifest(shuffled, "label", SplitSpec()).hash
    )


def test_few_patients_are_all_used_for_training() -> None:
    def held_out(num_patients: int, test_fraction: float | None = None) -> tuple[str, ...]:
        split_spec = SplitSpec(test_fraction=test_fraction)
        return create_split_manifest(cohort(num_patients), "label", split_spec).held_out

    assert held_out(59) == ()
    assert len(held_out(59, test_fraction=0.2)) == 12
    assert held_out(80, test_fraction=0.0) == ()


def test_the_held_out_groups_represent_the_others_in_size_and_classes() -> None:
    for seed in range(20):
        rows = cohort(200, seed)
        chosen = np.isin(rows.patients, choose_groups(rows.patients, rows.labels, 0.15, str(seed)))
        assert 0.11 < chosen.mean() < 0.19
        assert abs(rows.labels[chosen].mean() - rows.labels[~chosen].mean()) < 0.06


def test_another_seed_chooses_other_groups() -> None:
    rows = cohort(100)
    test_sets = {
        create_split_manifest(rows, "label", SplitSpec(seed=seed)).held_out for seed in range(5)
    }
    assert len(test_sets) == 5


def test_leave_one_out_has_a_fold_for_each_group() -> None:
    split_spec = SplitSpec(folds=(), leave_one_out=True)
    split_manifest = create_split_manifest(cohort(23), "label", split_spec)
    folds = split_manifest.schemes["leave-one-out"]
    assert [len(fold.validation) for fold in folds] == [1] * 23
    assert all(len(fold.train) == 22 for fold in folds)


def test_a_column_with_empty_values_is_rejected() -> None:
    with pytest.raises(DataError, match="have none"):
        create_split_manifest(cohort(30), "label", SplitSpec(by="site"))
    with pytest.raises(DataError, match="no such column"):
        create_split_manifest(cohort(30), "label", SplitSpec(by="colour"))


def test_a_split_manifest_gets_more_folds_and_keeps_its_test_set(cohort_shards: Path) -> None:
    data = str(cohort_shards)
    first, is_new = load_or_create_split_manifest(data, None, "label", ("3-fold",))
    assert is_new
    first.write(Folder(cohort_shards), "label")
    loaded, is_new = load_or_create_split_manifest(data, None, "label", ("3-fold",))
    assert (loaded, is_new) == (first, False)
    extended, is_new = load_or_create_split_manifest(data, None, "label", ("3-fold", "7-fold"))
    assert is_new
    assert extended.held_out == first.held_out
    assert extended.schemes[kfold_name(3)] == first.schemes[kfold_name(3)]
    assert len(extended.schemes[kfold_name(7)]) == 7


def test_added_folds_use_the_seed_of_the_split_manifest(cohort_shards: Path) -> None:
    rows = load_rows(str(cohort_shards))
    first = create_split_manifest(rows, "label", SplitSpec(folds=(3,), seed=7))
    first.write(Folder(cohort_shards), "seven")
    extended, is_new = load_or_create_split_manifest(
        str(cohort_shards), "seven", "label", ("5-fold",)
    )
    assert is_new
    both = create_split_manifest(rows, "label", SplitSpec(folds=(3, 5), seed=7))
    assert extended.schemes == both.schemes


def test_held_out_rows_are_not_in_the_memory_mapped_file(
    cohort_shards: Path, tmp_path: Path
) -> None:
    data = str(cohort_shards)
    all_patches = load_patches(data, tmp_path)
    split_manifest = create_split_manifest(load_rows(data), "label", SplitSpec())
    view = View(held_out=split_manifest.held_out)
    visible = load_patches(data, tmp_path, view)
    is_held_out = np.isin(all_patches.patients, split_manifest.held_out)
    assert 0 < is_held_out.sum() == len(all_patches.labels) - len(visible.labels)
    assert np.array_equal(visible.pixels, all_patches.pixels[~is_held_out])
    assert np.array_equal(visible.labels, all_patches.labels[~is_held_out])
    assert np.array_equal(load_rows(data, view).patients, visible.patients)
    content = (tmp_path / "pixels" / f"{visible.fingerprint}-{view.key}.npy").read_bytes()
    assert len(content) < len(all_patches.pixels.tobytes())
    for row in np.flatnonzero(is_held_out):
        assert all_patches.pixels[row].tobytes() not in content


def test_all_tasks_have_the_same_test_patients(two_tasks: str) -> None:
    grade, _is_new = load_or_create_split_manifest(two_tasks, None, "grade", ("2-fold",))
    default, _is_new = load_or_create_split_manifest(two_tasks, None, "label", ("3-fold",))
    assert len(default.held_out) == 11
    graded_patients = set(load_rows(two_tasks, View("grade")).patients.tolist())
    assert set(grade.held_out) == set(default.held_out) & graded_patients != set()
    rows = load_rows(two_tasks)
    test_patients = choose_test_patients(two_tasks, held_out_patients(two_tasks), 0)
    by_slide = create_split_manifest(rows, "label", SplitSpec(by="slide", folds=()), test_patients)
    is_held_out = np.isin(rows.slides, by_slide.held_out)
    assert set(rows.patients[is_held_out].tolist()) == set(default.held_out)


def test_the_test_patients_of_a_stored_split_manifest_are_used_again(two_tasks: str) -> None:
    default, _is_new = load_or_create_split_manifest(two_tasks, None, "label", ("3-fold",))
    stored = create_split_manifest(load_rows(two_tasks), "label", SplitSpec(seed=5))
    stored.write(Folder(two_tasks), "first")
    assert stored.held_out != default.held_out
    created, _is_new = load_or_create_split_manifest(two_tasks, None, "label", ("3-fold",))
    assert created.held_out == stored.held_out
    assert held_out_patients(two_tasks) == set(stored.held_out)
