"""A patient with slides on both sides of a fold is a leak, unless the user allows it."""

import pytest

from raysearch.data.files import Folder
from raysearch.data.shards.rows import load_rows
from raysearch.data.splits.split_creation import (
    SplitSpec,
    create_split_manifest,
    load_or_create_split_manifest,
)
from raysearch.errors import DataError
from support.split_rows import make_rows


def test_slides_of_one_patient_on_both_sides_are_rejected_unless_allowed() -> None:
    patients = [f"p{number // 4}" for number in range(48)]
    slides = [f"s{number // 2}" for number in range(48)]
    rows = make_rows(patients, [number % 2 for number in range(48)], slides)
    with pytest.raises(DataError, match="both sides of 3-fold") as error:
        create_split_manifest(rows, "label", SplitSpec(by="slide"))
    assert "--allow-leak p" in str(error.value)
    all_patients = tuple(sorted(set(patients)))
    split_spec = SplitSpec(by="slide", allowed_leaks=all_patients)
    leaks = create_split_manifest(rows, "label", split_spec).leaks
    assert leaks
    assert all(leak.startswith("patient p") for leak in leaks)


def test_a_split_manifest_with_leaks_gets_no_additional_folds(two_tasks: str) -> None:
    rows = load_rows(two_tasks)
    all_patients = tuple(set(rows.patients.tolist()))
    split_spec = SplitSpec(by="slide", folds=(2,), test_fraction=0.0, allowed_leaks=all_patients)
    create_split_manifest(rows, "label", split_spec).write(Folder(two_tasks), "leaky")
    _manifest, is_new = load_or_create_split_manifest(two_tasks, "leaky", "label", ("2-fold",))
    assert not is_new
    with pytest.raises(DataError, match=r"both sides, and has no 3-fold.*raysearch split"):
        load_or_create_split_manifest(two_tasks, "leaky", "label", ("3-fold",))
