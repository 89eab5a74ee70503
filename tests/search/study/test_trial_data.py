"""What the trials of a study train on, and what a worker retains of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysearch.config.space_file import parse_space
from raysearch.data.files import Folder
from raysearch.data.shards.rows import load_rows
from raysearch.data.shards.sharding import write_shards
from raysearch.data.splits.official_splits import official_split_manifest
from raysearch.data.splits.split_creation import SplitSpec
from raysearch.errors import DataError
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan_creation import make_plan
from raysearch.search.study.stored_study import read_splits
from raysearch.search.study.study import create_study
from raysearch.search.study.trial_data import WorkerCache
from support.split_schemes import scheme_tree


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 8 patients with both classes, 4 patches each."""
    path = tmp_path_factory.mktemp("trial-data") / "shards"
    write_shards("8:32:1", path, "synthetic", workers=1)
    return path


def create(space: dict[str, Any], data: Path, path: Path) -> StudyFolder:
    plan, splits = make_plan(parse_space(space, "x"), "x", str(data))
    folder = StudyFolder(path / "study")
    create_study(folder, plan, splits)
    return folder


def test_the_folds_of_leave_one_out_separate_the_patients(cohort: Path, tmp_path: Path) -> None:
    space = scheme_tree(validation="leave-one-out", objective={"metric": "log_loss"})
    folder = create(space, cohort, tmp_path)
    data = WorkerCache().training_data(folder.address, str(cohort), "cpu", 8, 1.0)
    validated = np.concatenate([val_indices for _train_indices, val_indices in data.folds])
    assert sorted(validated.tolist()) == list(range(32))
    for train_indices, val_indices in data.folds:
        val_patients = set(data.patients[val_indices].tolist())
        assert len(val_patients) == 1
        assert not set(data.patients[train_indices].tolist()) & val_patients


def test_an_official_split_is_one_fold_without_its_test_set(cohort: Path, tmp_path: Path) -> None:
    rows = load_rows(str(cohort))
    names = np.unique(rows.patients).tolist()
    parts = {"train": names[:4], "val": names[4:6], "test": names[6:7]}
    for part, patients in parts.items():
        (tmp_path / f"cases_{part}.txt").write_text("\n".join(patients))
    sources = [str(tmp_path / f"cases_{part}.txt") for part in parts]
    manifest = official_split_manifest(rows, "label", SplitSpec(), sources)
    manifest.write(Folder(str(cohort)), "authors")
    space = scheme_tree(validation="official", split="authors")
    folder = create(space, cohort, tmp_path)
    cache = WorkerCache()
    data = cache.training_data(folder.address, str(cohort), "cpu", 1, 1.0)
    ((train_indices, val_indices),) = data.folds
    assert set(data.patients[train_indices].tolist()) == set(parts["train"])
    assert set(data.patients[val_indices].tolist()) == set(parts["val"])
    assert not set(data.patients.tolist()) & set(parts["test"])
    refit_indices, _sample = cache.refit_data(folder.address, str(cohort), "cpu").folds[0]
    assert set(data.patients[refit_indices].tolist()) == {*parts["train"], *parts["val"]}
    assert list(read_splits(folder, cache.plan(folder.address))) == [1]


def test_a_worker_retains_the_data_and_rejects_other_shards(
    cohort: Path, shards: Path, tmp_path: Path
) -> None:
    folder = create(scheme_tree(validation="holdout-3x0.25"), cohort, tmp_path)
    cache = WorkerCache()
    data = cache.training_data(folder.address, str(cohort), "cpu", 3, 1.0)
    assert cache.training_data(folder.address, str(cohort), "cpu", 3, 1.0) is data
    assert cache.training_data(folder.address, str(cohort), "cpu", 3, 0.5).pixels is data.pixels
    with pytest.raises(DataError):
        cache.training_data(folder.address, str(shards), "cpu", 3, 1.0)
