"""Official splits are read from the authors' lists, or from the column of the data set."""

from dataclasses import replace
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest

from raysearch.data.splits.official_splits import official_split_manifest
from raysearch.data.splits.split_creation import SplitSpec
from raysearch.data.splits.split_manifest import SplitManifest
from raysearch.errors import DataError
from support.split_rows import cohort, make_rows


def test_three_lists_of_patients_are_an_official_split(tmp_path: Path) -> None:
    rows = cohort(40)
    rows = replace(rows, patients=np.char.add(rows.patients, "\u00e9"))
    names = sorted(set(rows.patients.tolist()))
    subsets = {"train": names[:20], "val": names[20:30], "test": names[30:35]}
    for subset, patients in subsets.items():
        # Decomposed, as a Mac writes names, and with blanks.
        lines = [f" {normalize('NFD', patient)} " for patient in patients]
        (tmp_path / f"cases_{subset}.txt").write_text("\n".join([*lines, "unknown", ""]))
    lists = [str(tmp_path / f"cases_{subset}.txt") for subset in subsets]
    split_manifest = official_split_manifest(rows, "label", SplitSpec(), lists)
    assert split_manifest.held_out == tuple(subsets["test"])
    (fold,) = split_manifest.schemes["official"]
    assert (fold.train, fold.validation) == (tuple(subsets["train"]), tuple(subsets["val"]))
    (tmp_path / "cases_val.txt").write_text(names[0])
    with pytest.raises(DataError, match="is in two of the lists"):
        official_split_manifest(rows, "label", SplitSpec(), lists)
    with pytest.raises(DataError, match="cannot be read"):
        official_split_manifest(rows, "label", SplitSpec(), [str(tmp_path / "nowhere_train.txt")])


def test_breakhis_lists_leak_patients_and_need_their_names(tmp_path: Path) -> None:
    slides = ["SOB_M_DC-14-13412", "SOB_M_LC-14-13412", "SOB_B_A-14-1", "SOB_B_F-14-2"] * 3
    patients = ["13412", "13412", "1", "2"] * 3
    rows = make_rows(patients, [1, 1, 0, 0] * 3, slides)
    lines = [
        f"{slide}-100-001.png|100|1|{'train' if number % 2 else 'test'}"
        for number, slide in enumerate(slides[:4])
    ]
    (tmp_path / "dsfold1.txt").write_text("\n".join(lines))
    source = [str(tmp_path / "dsfold1.txt")]
    with pytest.raises(DataError, match="--by slide"):
        official_split_manifest(rows, "label", SplitSpec(), source)
    with pytest.raises(DataError, match="patient 13412: both sides"):
        official_split_manifest(rows, "label", SplitSpec(by="slide"), source)
    split_manifest = official_split_manifest(
        rows, "label", SplitSpec(by="slide", allowed_leaks=("13412",)), source
    )
    assert split_manifest.leaks == ("patient 13412: both sides of official, fold 0",)
    assert isinstance(split_manifest, SplitManifest)


def test_a_byte_order_mark_is_ignored_and_lists_of_other_patients_are_rejected(
    tmp_path: Path,
) -> None:
    rows = cohort(12)
    names = sorted(set(rows.patients.tolist()))
    subsets = {"train": names[:6], "val": names[6:9], "test": names[9:]}
    for subset, patients in subsets.items():
        path = tmp_path / f"cases_{subset}.txt"
        path.write_text("\n".join(patients), encoding="utf-8-sig")
    sources = [str(tmp_path / f"cases_{subset}.txt") for subset in subsets]
    split_manifest = official_split_manifest(rows, "label", SplitSpec(), sources)
    assert list(split_manifest.held_out) == names[9:]
    (tmp_path / "cases_test.txt").write_text("nobody\n")
    with pytest.raises(DataError, match=r"cases_test\.txt: none of its patients"):
        official_split_manifest(rows, "label", SplitSpec(), sources)


def test_an_unknown_value_in_the_column_is_rejected() -> None:
    rows = cohort(12)
    column = np.where(np.arange(len(rows.labels)) % 2 == 0, "train", "testing")
    with pytest.raises(DataError, match="'testing' is none of train, valid, test"):
        official_split_manifest(
            replace(rows, official_splits=column), "label", SplitSpec(), ["split"]
        )
