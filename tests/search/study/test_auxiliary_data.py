"""Auxiliary shards have other patients, the same kind of patches, and are in no fold."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raysearch.config.space_file import parse_space
from raysearch.data.files import Folder
from raysearch.data.shards.rows import ALL, load_rows
from raysearch.data.shards.sharding import write_shards
from raysearch.data.splits.split_creation import SplitSpec, create_split_manifest
from raysearch.errors import DataError, SpaceError
from raysearch.search.study.auxiliary_data import find_auxiliary, mapped_labels
from raysearch.search.study.plan import load_plan
from raysearch.search.study.plan_creation import make_plan, reject_changes


def write_classes(folder: Path, names: tuple[str, ...], side: int = 50) -> str:
    """Shards of two patches a class, of patients that the synthetic set has not."""
    for number, name in enumerate(names):
        (folder / "images" / name).mkdir(parents=True)
        for image in range(2):
            noise = np.random.default_rng([number, image]).integers(
                0, 255, (side, side, 3), np.uint8
            )
            Image.fromarray(noise).save(folder / "images" / name / f"x{image}.png")
    write_shards(str(folder / "images"), folder / "shards", "folder", workers=1)
    return str(folder / "shards")


def tree(**more: object) -> dict[str, object]:
    return {"epochs": 1, "trials": 2, "space": {"folds": 2, "learning_rate": 0.001}, **more}


def test_a_plan_names_its_auxiliary_shards(shards: Path, tmp_path: Path) -> None:
    other = write_classes(tmp_path, ("positive", "negative"))
    space = parse_space(tree(auxiliary=[other]), "x")
    plan, splits = make_plan(space, "x", str(shards))
    assert load_plan(plan.dump()) == plan
    assert [(shards.data, shards.rows) for shards in plan.auxiliary] == [(other, 4)]
    patients = set(load_rows(str(shards)).patients.tolist())
    assert all(
        {*fold.train, *fold.validation} == patients for folds in splits.values() for fold in folds
    )
    new_plan, _splits = make_plan(space, "x", str(shards))
    reject_changes(plan, new_plan)


def test_labels_are_mapped_by_class_name(tmp_path: Path) -> None:
    rows = load_rows(write_classes(tmp_path, ("positive", "negative", "other")))
    names = ("other", "positive", "negative")
    assert [names[label] for label in mapped_labels(rows, names)] == [
        rows.class_names[label] for label in rows.labels
    ]


def test_shards_of_the_same_patients_are_rejected(shards: Path, tmp_path: Path) -> None:
    write_shards("3:60:9", tmp_path / "same", "synthetic", workers=1)
    with pytest.raises(DataError, match="patient 'p000' is in the study, too"):
        find_auxiliary(str(tmp_path / "same"), ALL, str(shards))


def test_patches_of_another_size_or_class_are_rejected(shards: Path, tmp_path: Path) -> None:
    large = write_classes(tmp_path / "large", ("positive",), 64)
    with pytest.raises(DataError, match="patches of 64x64x3, but the study's are of 50x50x3"):
        find_auxiliary(large, ALL, str(shards))
    other_class = write_classes(tmp_path / "other", ("adipose",))
    with pytest.raises(DataError, match="class 'adipose' is none of negative, positive"):
        find_auxiliary(other_class, ALL, str(shards))


def test_a_weight_without_auxiliary_shards_is_rejected() -> None:
    space = {"folds": 2, "auxiliary_weight": {"choice": [0.0, 1.0]}}
    with pytest.raises(SpaceError, match="has no effect without `auxiliary`"):
        parse_space(tree(space=space), "x")
    for value in (3, [""], ["a", "a"]):
        with pytest.raises(SpaceError, match=r"auxiliary(\.\d)?: "):
            parse_space(tree(auxiliary=value), "x")


def test_the_same_patches_under_other_patients_are_rejected(shards: Path, tmp_path: Path) -> None:
    write_shards("12:240:3", tmp_path / "same", "synthetic", workers=1)
    table = pq.read_table(tmp_path / "same" / "part-00000.parquet")
    pixels = np.frombuffer(table.column("pixels").combine_chunks().buffers()[1], np.uint8)
    (tmp_path / "images" / "positive").mkdir(parents=True)
    path = tmp_path / "images" / "positive" / "1.png"
    Image.fromarray(pixels[: 50 * 50 * 3].reshape(50, 50, 3)).save(path)
    write_shards(str(tmp_path / "images"), tmp_path / "copy", "folder", workers=1)
    with pytest.raises(DataError, match="1 of its patches are in the study, too"):
        find_auxiliary(str(tmp_path / "copy"), ALL, str(shards))


def test_the_held_out_patients_of_auxiliary_shards_are_not_visible(
    shards: Path, tmp_path: Path
) -> None:
    other = write_classes(tmp_path, ("positive", "negative"))
    rows = load_rows(other)
    create_split_manifest(rows, "label", SplitSpec(folds=(), test_fraction=0.5)).write(
        Folder(other), "label"
    )
    auxiliary = find_auxiliary(other, ALL, str(shards))
    assert len(auxiliary.held_out) == auxiliary.rows == 2
    assert not set(load_rows(other, auxiliary.view).patients.tolist()) & set(auxiliary.held_out)
    plan, _splits = make_plan(parse_space(tree(auxiliary=[other]), "x"), "x", str(shards))
    assert load_plan(plan.dump()) == plan
    assert any("no patient is known" in warning for warning in plan.warnings)
