"""A split manifest is read as it was written, or rejected."""

import json
from pathlib import Path

import pytest

from raysearch.data.files import Folder
from raysearch.data.shards.rows import load_rows
from raysearch.data.splits.folds import split_hash
from raysearch.data.splits.split_creation import SplitSpec, create_split_manifest
from raysearch.data.splits.split_manifest import (
    add_split_manifest,
    check_split_rows,
    count_classes,
    read_split_manifest,
)
from raysearch.errors import DataError
from support.split_rows import make_rows

PINNED_FOLDS = {
    "3-fold": "7c99702909af6980b509a93a681aef8df4990113dd579bb99e0e6353a422d270",
    "5-fold": "4bdd821ea400817ff5ce076166581c9b7d9fc632bc7a850ec88dfadc696001c0",
    "10-fold": "40d512886f80f49eb96e655462c88e45e6f11508c760df4bbaf2ad9b562d8612",
}
PINNED_MANIFEST = "cd4c4330c8a493a9398bb67c2abdaea5a21a2f20ad2745cfba8bf60c34f31111"


def test_a_split_manifest_is_the_same_for_ever() -> None:
    patients = [f"p{number % 83}" for number in range(1245)]
    rows = make_rows(patients, [int(number * number % 7 < 2) for number in range(1245)])
    split_manifest = create_split_manifest(rows, "label", SplitSpec(folds=(3, 5, 10)))
    folds = {name: split_hash(folds) for name, folds in split_manifest.schemes.items()}
    assert folds == PINNED_FOLDS
    assert split_manifest.hash == PINNED_MANIFEST


def test_a_split_manifest_is_read_as_it_was_written(cohort_shards: Path) -> None:
    folder, rows = Folder(cohort_shards), load_rows(str(cohort_shards))
    split_manifest = create_split_manifest(rows, "label", SplitSpec(folds=(3, 5)))
    split_manifest.write(folder, "twice")
    assert read_split_manifest(folder, "twice", rows.fingerprint) == split_manifest
    with pytest.raises(DataError, match="belongs to other shards"):
        read_split_manifest(folder, "twice", "0" * 64)
    with pytest.raises(DataError, match="no such split manifest"):
        read_split_manifest(folder, "none", rows.fingerprint)


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_a_split_manifest_with_any_byte_changed_is_rejected(
    cohort_shards: Path, suffix: str
) -> None:
    rows = load_rows(str(cohort_shards))
    name = f"changed-{suffix[1:]}"
    split_manifest = create_split_manifest(rows, "label", SplitSpec())
    split_manifest.write(Folder(cohort_shards), name)
    files = list((cohort_shards / "splits").glob(f"{name}*"))
    (path,) = [file for file in files if file.suffix == suffix]
    content = path.read_bytes()
    num_rejected = 0
    for position in range(0, len(content), max(1, len(content) // 60)):
        changed = bytes([content[position] ^ 1])
        path.write_bytes(content[:position] + changed + content[position + 1 :])
        try:
            read = read_split_manifest(Folder(cohort_shards), name, rows.fingerprint)
        except DataError:
            num_rejected += 1
        else:  # a byte without meaning, such as a space
            assert read == split_manifest
    assert num_rejected > 20
    for file in files:
        file.unlink()


def test_another_format_version_is_rejected_in_one_line(cohort_shards: Path) -> None:
    rows, name = load_rows(str(cohort_shards)), "version"
    create_split_manifest(rows, "label", SplitSpec()).write(Folder(cohort_shards), name)
    path = cohort_shards / "splits" / f"{name}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 1}))
    with pytest.raises(
        DataError, match=r"version\.json: format version 1.*raysearch split"
    ) as error:
        read_split_manifest(Folder(cohort_shards), name, rows.fingerprint)
    assert "\n" not in str(error.value)
    for file in (cohort_shards / "splits").glob(f"{name}*"):
        file.unlink()


def test_rows_that_were_not_split_are_rejected(cohort_shards: Path) -> None:
    rows = load_rows(str(cohort_shards))
    split_manifest = create_split_manifest(rows, "label", SplitSpec())
    check_split_rows(split_manifest, count_classes(rows.patients, rows.labels, 2, split_manifest))
    labels = rows.labels.copy()
    labels[0] = 1 - labels[0]
    with pytest.raises(DataError, match="when the split manifest was written"):
        check_split_rows(split_manifest, count_classes(rows.patients, labels, 2, split_manifest))


def test_a_split_manifest_written_in_the_meantime_is_merged_or_rejected(
    cohort_shards: Path,
) -> None:
    rows, folder = load_rows(str(cohort_shards)), Folder(cohort_shards)
    for num_folds in (3, 5):
        split_manifest = create_split_manifest(rows, "label", SplitSpec(folds=(num_folds,)))
        add_split_manifest(split_manifest, folder, "meanwhile")
    merged = read_split_manifest(folder, "meanwhile", rows.fingerprint)
    assert merged == create_split_manifest(rows, "label", SplitSpec(folds=(3, 5)))
    with pytest.raises(DataError, match="another process has written it"):
        add_split_manifest(
            create_split_manifest(rows, "label", SplitSpec(seed=1)), folder, "meanwhile"
        )
    assert read_split_manifest(folder, "meanwhile", rows.fingerprint) == merged
