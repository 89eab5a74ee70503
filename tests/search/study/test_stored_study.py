"""A stored study is read without taking part in it."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from raysearch.config.space import Hyperparameter
from raysearch.errors import DataError, StudyError
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.stored_study import load_study, read_plan, read_splits
from raysearch.search.study.study import Study
from support.result_studies import new_study, train_next

FORGED = Hyperparameter("os.system", "fixed", (1,))


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
    with pytest.raises(StudyError, match=f"no study 'y' in {tmp_path};"):
        load_study(StudyFolder(tmp_path / "y"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file to another account")
def test_a_remote_address_of_another_accounts_study_is_not_used(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAYSEARCH_ALLOW", raising=False)
    folder = study.folder
    remote = replace(study.plan, data="s3://their-bucket/shards")
    for plan in (study.plan, remote):
        folder.write(folder.PLAN, plan.dump())
        assert read_plan(folder) == plan
        os.chown(folder.path(folder.PLAN), 12345, 12345)
        if plan is study.plan:
            assert read_plan(folder) == plan
    with pytest.raises(DataError, match="a study of another account names this address"):
        read_plan(folder)
    monkeypatch.setenv("RAYSEARCH_ALLOW", "1")
    assert read_plan(folder) == remote


def test_a_forged_plan_is_rejected_in_one_line(study: Study) -> None:
    plan = study.plan
    forged = {
        "split schemes": replace(plan, splits=()),
        "other counts": replace(plan, splits=(replace(plan.splits[0], patients=()),)),
        "classes": replace(plan, class_counts=()),
        "name of a study": replace(plan, name="../x"),
        "no size": replace(plan, shape=(0, 32, 3)),
        "numbers of epochs": replace(plan, space=replace(plan.space, epochs=0)),
        "objective": replace(plan, space=replace(plan.space, metric="x")),
        "is unknown": replace(plan, space=replace(plan.space, hparams=(FORGED,))),
        "is not valid": replace(plan, space=replace(plan.space, constraints=("x x",))),
    }
    for reason, other in forged.items():
        study.folder.write(study.folder.PLAN, other.dump())
        with pytest.raises(StudyError, match=reason) as rejected:
            read_plan(study.folder)
        assert "\n" not in str(rejected.value)


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
    with pytest.raises(StudyError, match=r"plan\.json: plan format 1, but .* reads format 7"):
        read_plan(study.folder)
