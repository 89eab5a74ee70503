"""Studies over a split manifest's other schemes: leave-one-out, hold-outs, the authors' lists."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raysearch.cli.tables import plan_tables
from raysearch.config.space_file import parse_space
from raysearch.data.files import Folder
from raysearch.data.patches import load_rows
from raysearch.data.shards.sharding import write_shards
from raysearch.data.splits.official_splits import official_split_manifest
from raysearch.data.splits.split_creation import SplitSpec
from raysearch.errors import DataError, SpaceError
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.baselines import record_majority
from raysearch.search.study.plan import load_plan, make_plan, reject_changes
from raysearch.search.study.study import create_study, read_splits
from raysearch.search.study.trial_data import refit_data, training_data


def tree(**more: Any) -> dict[str, Any]:
    return {"epochs": 1, "trials": 2, "space": {"learning_rate": 0.001}, **more}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 8 patients with both classes, 4 patches each."""
    place = tmp_path_factory.mktemp("validation")
    write_shards("8:32:1", place / "shards", "synthetic", workers=1)
    return place / "shards"


def begun(space: dict[str, Any], data: Path, place: Path) -> StudyFolder:
    plan, splits = make_plan(parse_space(space, "x"), "x", str(data))
    folder = StudyFolder(place / "study")
    study = create_study(folder, plan, splits)
    record_majority(study)
    return folder


def test_leave_one_out_judges_each_patient_once(cohort: Path, tmp_path: Path) -> None:
    space = tree(validation="leave-one-out", objective={"metric": "log_loss"})
    plan, splits = make_plan(parse_space(space, "x"), "x", str(cohort))
    assert [one.folds for one in plan.splits] == [8]
    assert plan.splits[0].patients == (1,) * 8
    assert plan.max_fold_epochs == 2 * 8 + 8 + 1
    assert load_plan(plan.dump()) == plan
    (*_others, table) = plan_tables(plan)
    assert [list(one.cells) for one in table.columns] == [
        ["lowest", "median", "highest"],
        ["1"] * 3,
        ["4"] * 3,
    ]
    reject_changes(plan, make_plan(parse_space(space, "x"), "x", str(cohort))[0])
    assert [len(one.judge) for one in splits[8]] == [1] * 8
    folder = begun(space, cohort, tmp_path)
    data = training_data(str(folder.address), str(cohort), "cpu", 8, 1.0)
    judged = np.concatenate([rows for _learned, rows in data.folds])
    assert sorted(judged.tolist()) == list(range(32))
    assert all(len(set(data.patients[rows].tolist())) == 1 for _learned, rows in data.folds)
    assert all(
        not set(data.patients[learned].tolist()) & set(data.patients[rows].tolist())
        for learned, rows in data.folds
    )


def test_a_holdout_judges_a_share_again_and_again(cohort: Path) -> None:
    space = parse_space(tree(validation="holdout-3x0.25"), "x")
    plan, splits = make_plan(space, "x", str(cohort))
    assert plan.splits[0].folds == 3
    assert [len(one.judge) for one in splits[3]] == [2, 2, 2]
    assert len({one.judge for one in splits[3]}) > 1


def test_the_authors_lists_are_one_fold_and_the_rest_is_not_touched(
    cohort: Path, tmp_path: Path
) -> None:
    rows = load_rows(str(cohort))
    names = np.unique(rows.patients).tolist()
    parts = {"train": names[:4], "val": names[4:6], "test": names[6:7]}
    for part, held in parts.items():
        (tmp_path / f"cases_{part}.txt").write_text("\n".join(held))
    sources = [str(tmp_path / f"cases_{part}.txt") for part in parts]
    space = tree(validation="official", split="authors")
    with pytest.raises(DataError, match="no split manifest 'authors'"):
        make_plan(parse_space(space, "x"), "x", str(cohort))
    with pytest.raises(DataError, match="no official lists; write one with `raysearch split"):
        make_plan(parse_space(tree(validation="official"), "x"), "x", str(cohort))
    official_split_manifest(rows, "label", SplitSpec(), sources).write(
        Folder(str(cohort)), "authors"
    )
    folder = begun(space, cohort, tmp_path)
    data = training_data(str(folder.address), str(cohort), "cpu", 1, 1.0)
    ((learned, judged),) = data.folds
    assert set(data.patients[learned].tolist()) == set(parts["train"])
    assert set(data.patients[judged].tolist()) == set(parts["val"])
    assert not set(data.patients.tolist()) & set(parts["test"])
    everyone, _none = refit_data(str(folder.address), str(cohort), "cpu").folds[0]
    assert set(data.patients[everyone].tolist()) == {*parts["train"], *parts["val"]}
    (whole,) = read_splits(folder, make_plan(parse_space(space, "x"), "x", str(cohort))[0])
    assert whole == 1


def test_a_fold_without_a_class_is_rejected_where_the_objective_is_not_defined(
    tmp_path: Path,
) -> None:
    random = np.random.default_rng(0)
    table = ["path,label,patient"]
    (tmp_path / "images").mkdir()
    for number, (patient, label) in enumerate([("a", 0), ("a", 1), ("b", 0), ("b", 1), ("c", 0)]):
        pixels = random.integers(0, 255, (50, 50, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
        table.append(f"images/{number}.png,{label},{patient}")
    (tmp_path / "rows.csv").write_text("\n".join(table))
    write_shards(str(tmp_path / "rows.csv"), tmp_path / "shards", "csv", workers=1)
    space = tree(validation="leave-one-out")
    with pytest.raises(DataError, match=r"fold 2 is judged by no 1, where auroc is not defined"):
        make_plan(parse_space(space, "x"), "x", str(tmp_path / "shards"))
    for metric in ("log_loss", "brier", "accuracy"):
        asked = parse_space(space | {"objective": {"metric": metric}}, "x")
        assert make_plan(asked, "x", str(tmp_path / "shards"))[0].splits[0].folds == 3


def test_errors_of_a_validation_are_told() -> None:
    for bad in ("loo", "holdout-0x0.2", "holdout-5x1.5", "3-fold"):
        with pytest.raises(SpaceError, match=r"validation: .* is unknown; one of folds, leave-one"):
            parse_space(tree(validation=bad), "x")
    with pytest.raises(SpaceError, match="validation leave-one-out has folds of its own"):
        parse_space(tree(validation="leave-one-out") | {"space": {"folds": 3}}, "x")
