"""Auxiliary shards: of other patients, of the same kind, and in no fold."""

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
        for one in range(2):
            noise = np.random.default_rng([number, one]).integers(0, 255, (side, side, 3), np.uint8)
            Image.fromarray(noise).save(folder / "images" / name / f"x{one}.png")
    write_shards(str(folder / "images"), folder / "shards", "folder", workers=1)
    return str(folder / "shards")


def tree(**more: object) -> dict[str, object]:
    return {"epochs": 1, "trials": 2, "space": {"folds": 2, "learning_rate": 0.001}, **more}


def test_a_plan_names_its_auxiliary_shards(shards: Path, tmp_path: Path) -> None:
    other = write_classes(tmp_path, ("positive", "negative"))
    space = parse_space(tree(auxiliary=[other]), "x")
    plan, splits = make_plan(space, "x", str(shards))
    assert load_plan(plan.dump()) == plan
    assert [(one.data, one.rows) for one in plan.auxiliary] == [(other, 4)]
    known = set(load_rows(str(shards)).patients.tolist())
    assert all({*one.train, *one.validation} == known for folds in splits.values() for one in folds)
    again, _splits = make_plan(space, "x", str(shards))
    reject_changes(plan, again)


def test_labels_go_by_the_names_of_the_classes(tmp_path: Path) -> None:
    rows = load_rows(write_classes(tmp_path, ("positive", "negative", "other")))
    names = ("other", "positive", "negative")
    assert [names[one] for one in mapped_labels(rows, names)] == [
        rows.class_names[one] for one in rows.labels
    ]


def test_shards_of_the_same_patients_are_rejected(shards: Path, tmp_path: Path) -> None:
    write_shards("3:60:9", tmp_path / "same", "synthetic", workers=1)
    with pytest.raises(DataError, match="patient 'p000' is in the study, too"):
        find_auxiliary(str(tmp_path / "same"), ALL, str(shards))


def test_patches_of_another_size_or_class_are_rejected(shards: Path, tmp_path: Path) -> None:
    large = write_classes(tmp_path / "large", ("positive",), 64)
    with pytest.raises(DataError, match="patches of 64x64x3, but the study's are of 50x50x3"):
        find_auxiliary(large, ALL, str(shards))
    strange = write_classes(tmp_path / "strange", ("adipose",))
    with pytest.raises(DataError, match="class 'adipose' is none of negative, positive"):
        find_auxiliary(strange, ALL, str(shards))


def test_a_weight_without_auxiliary_shards_is_an_error() -> None:
    space = {"folds": 2, "auxiliary_weight": {"choice": [0.0, 1.0]}}
    with pytest.raises(SpaceError, match="has no effect without `auxiliary`"):
        parse_space(tree(space=space), "x")
    for wrong in (3, [""], ["a", "a"]):
        with pytest.raises(SpaceError, match="auxiliary: "):
            parse_space(tree(auxiliary=wrong), "x")


def test_the_same_patches_under_other_patients_are_rejected(shards: Path, tmp_path: Path) -> None:
    write_shards("12:240:3", tmp_path / "same", "synthetic", workers=1)
    table = pq.read_table(tmp_path / "same" / "part-00000.parquet")
    pixels = np.frombuffer(table.column("pixels").combine_chunks().buffers()[1], np.uint8)
    (tmp_path / "images" / "positive").mkdir(parents=True)
    place = tmp_path / "images" / "positive" / "1.png"
    Image.fromarray(pixels[: 50 * 50 * 3].reshape(50, 50, 3)).save(place)
    write_shards(str(tmp_path / "images"), tmp_path / "copy", "folder", workers=1)
    with pytest.raises(DataError, match="1 of its patches are in the study, too"):
        find_auxiliary(str(tmp_path / "copy"), ALL, str(shards))


def test_what_an_auxiliary_set_seals_itself_is_not_learned(shards: Path, tmp_path: Path) -> None:
    other = write_classes(tmp_path, ("positive", "negative"))
    rows = load_rows(other)
    create_split_manifest(rows, "label", SplitSpec(folds=(), test_fraction=0.5)).write(
        Folder(other), "label"
    )
    found = find_auxiliary(other, ALL, str(shards))
    assert len(found.held_out) == found.rows == 2
    assert not set(load_rows(other, found.view).patients.tolist()) & set(found.held_out)
    plan, _splits = make_plan(parse_space(tree(auxiliary=[other]), "x"), "x", str(shards))
    assert load_plan(plan.dump()) == plan
    assert any("no patient is known" in one for one in plan.warnings)
