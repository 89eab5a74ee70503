"""A stored study is read without taking part in it."""

from pathlib import Path

import pytest

from raysearch.errors import StudyError
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.stored_study import load_study, read_plan, read_splits
from raysearch.search.study.study import Study
from support.result_studies import new_study, train_next


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    return new_study(shards, tmp_path / "x")


def test_a_snapshot_is_the_study_at_the_moment_of_reading(study: Study) -> None:
    train_next(study, 3)
    snapshot = load_study(study.folder)
    assert snapshot.plan == study.plan
    assert list(snapshot.events) == study.journal.events
    assert snapshot.history.trials == study.history.trials
    train_next(study, 1)
    assert len(snapshot.events) < len(study.journal.events)


def test_a_missing_study_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no study 'y' in"):
        load_study(StudyFolder(tmp_path / "y"))


def test_splits_that_are_not_the_plans_are_rejected(study: Study) -> None:
    folder = study.folder
    good = folder.read(folder.SPLITS)
    assert read_splits(folder, study.plan)[2]
    for bad in (good[:-9], good.replace(b"p000", b"p009", 1), b"[]", b"{}"):
        folder.write(folder.SPLITS, bad)
        with pytest.raises(StudyError, match=r"splits\.json: missing, or its folds are not"):
            read_splits(folder, study.plan)


def test_a_plan_of_another_format_is_rejected_in_one_line(study: Study) -> None:
    import hashlib
    import json

    content = {"name": "x", "space": {}}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    study.folder.write(study.folder.PLAN, json.dumps({**content, "hash": digest}).encode())
    with pytest.raises(StudyError, match=r"plan\.json: plan format 1, but .* reads format 2"):
        read_plan(study.folder)
