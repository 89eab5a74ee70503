"""A trial that was trained without Ray, trained again from its record."""

import shutil
import socket
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from raysearch.analysis.trial_replay import ELSEWHERE, Compared, Replay, default_tolerance
from raysearch.cli import run
from raysearch.data.shards.sharding import write_shards
from raysearch.search.journal.journal import Journal
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.baselines import record_majority
from raysearch.search.study.study import Study
from raysearch.search.study.trial_data import train_config, training_data
from raysearch.training.loop import FoldEpoch, train
from support.result_studies import new_study, next_searched

TREE: dict[str, Any] = {
    "epochs": 1,
    "trials": 2,
    "space": {"folds": 2, "optimizer": "sgd", "learning_rate": {"loguniform": [1e-3, 1e-2]}},
}


@pytest.fixture(scope="module")
def trained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study whose benchmark was trained, whose first trial failed, and whose next one waits."""
    study = new_study(shards, tmp_path_factory.mktemp("studies") / "small", TREE)
    record_majority(study)
    benchmark, first = study.next_trial(), study.next_trial()
    assert benchmark is not None
    assert first is not None
    data = training_data(study.folder.address, study.plan.data, "cpu", 2, 1.0)
    config = train_config(study.plan, benchmark.hparams, benchmark.seed, torch.device("cpu"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    host = {"host": socket.gethostname()}

    def record(done: FoldEpoch, *_more: object) -> None:
        study.report("benchmark", {**asdict(done), **host})

    train(config, data, record)
    torch.set_num_threads(threads)
    study.fail(first.id, "its worker was lost too often")
    assert study.next_trial() is not None
    return study


def again(study: Study, *words: str) -> int:
    place = str(Path(study.folder.address).parent)
    return run(["replay", *words, "--studies", place, "--study", study.folder.name])


def contents(study: Study) -> dict[str, bytes]:
    place = Path(study.folder.address)
    return {str(one): one.read_bytes() for one in place.rglob("*") if one.is_file()}


def altered(study: Study, place: Path, by: float) -> Study:
    """A copy of `study` whose second fold-epoch of the benchmark is recorded `by` too high."""
    copy = StudyFolder(place / "altered")
    shutil.copytree(study.folder.address, copy.address)
    shutil.rmtree(f"{copy.address}/journal")
    journal = Journal(copy / copy.JOURNAL)
    for event in study.journal.events:
        told = {name: value for name, value in event.items() if name not in ("n", "at")}
        if (told["event"], told.get("trial"), told.get("epoch")) == ("report", "benchmark", 2):
            told["objective"] += by
        journal.append(told)
    return Study(copy, study.plan)


def test_a_trial_trains_to_the_very_numbers_that_were_recorded(trained: Study, capsys: Any) -> None:
    before = contents(trained)
    assert again(trained, "benchmark") == 0
    out = capsys.readouterr().out
    assert "They agree within 0; the largest difference is 0." in out
    recorded = [one["objective"] for one in trained.history.trials["benchmark"].reports]
    assert len(recorded) == 2
    for one in recorded:
        assert out.count(f"{one:.6f}") >= 2
    assert contents(trained) == before


def test_a_record_that_is_not_what_was_trained_is_told(
    trained: Study, tmp_path: Path, capsys: Any
) -> None:
    wrong = altered(trained, tmp_path, 0.01)
    assert again(wrong, "benchmark") == 1
    assert "They do not agree within 0; the largest difference is 0.01." in capsys.readouterr().out
    assert again(wrong, "benchmark", "--tolerance", "0.02") == 0
    assert again(wrong, "benchmark", "--folds", "1") == 0


def test_what_cannot_be_replayed_is_told_in_one_line(
    trained: Study, tmp_path: Path, capsys: Any
) -> None:
    write_shards("12:240:4", tmp_path / "other", "synthetic", workers=1)
    told = {
        "no trial 't9' in study 'small'; one of benchmark, t0000, t0001": ("t9",),
        "majority was not trained": ("majority",),
        "t0000 has no fold-epoch to compare; it failed before (its worker was lost": ("t0000",),
        "t0001 has no fold-epoch to compare; wait for its first": ("t0001",),
        "--folds 3: benchmark has 2; give 1 to 2": ("benchmark", "--folds", "3"),
        "--folds 0: benchmark has 2": ("benchmark", "--folds", "0"),
        "--tolerance -1.0: not a distance": ("benchmark", "--tolerance", "-1"),
        "other shards than study 'small' was made with": (
            *("benchmark", "--data", str(tmp_path / "other")),
        ),
    }
    for said, words in told.items():
        assert again(trained, *words) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1


def test_shards_that_have_moved_are_named(trained: Study, shards: Path, tmp_path: Path) -> None:
    shutil.copytree(shards, tmp_path / "moved")
    assert again(trained, "benchmark", "--folds", "1", "--data", str(tmp_path / "moved")) == 0


def test_a_training_that_failed_fails_again(shards: Path, tmp_path: Path, capsys: Any) -> None:
    inner = {**TREE["space"], "learning_rate": 100.0, "weight_decay": 10.0, "batch_size": 4}
    study = new_study(shards, tmp_path / "nan", TREE | {"space": {**inner, "width": 4}})
    trial = next_searched(study)
    study.fail(trial.id, "nan-loss")
    assert again(study, trial.id) == 0
    assert "recorded: nan-loss, now: nan-loss" in capsys.readouterr().out


def test_another_machine_is_given_some_room(trained: Study) -> None:
    trial = trained.history.trials["benchmark"]
    found = Replay(trial, (Compared(1, 0, 0.5, 0.51),), "", "", "cpu", True, frozenset())
    assert default_tolerance(found, socket.gethostname()) == 0.0
    assert default_tolerance(found, "elsewhere") == ELSEWHERE
    assert default_tolerance(replace(found, on_cpu=False), socket.gethostname()) == ELSEWHERE
    assert found.agrees(0.02)
    assert not found.agrees(0.001)
    assert not replace(found, failure="nan-loss").agrees(1.0)
    assert replace(found, probed=frozenset({"gpu"})).plain
