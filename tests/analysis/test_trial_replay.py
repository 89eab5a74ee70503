"""Replays of a trial that was trained without Ray."""

import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from raysearch.analysis.trial_replay import (
    OTHER_MACHINE_TOLERANCE,
    EpochComparison,
    TrialReplay,
    default_tolerance,
)
from raysearch.cli import run
from raysearch.data.shards.sharding import write_shards
from raysearch.search.engine.reporter import fold_report as report_of
from raysearch.search.journal.events import FoldReport
from raysearch.search.journal.journal import Journal
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.baselines import record_majority
from raysearch.search.study.study import Study
from raysearch.search.study.trial_data import WORKER_CACHE, train_config
from raysearch.training.loop import FoldEpoch, train
from support.result_studies import new_study, next_searched

TREE: dict[str, Any] = {
    "epochs": 1,
    "trials": 2,
    "space": {"folds": 2, "optimizer": "sgd", "learning_rate": {"loguniform": [1e-3, 1e-2]}},
}


@pytest.fixture(scope="module")
def trained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study with a trained benchmark, a trial whose worker was lost, and one that waits."""
    study = new_study(shards, tmp_path_factory.mktemp("studies") / "small", TREE)
    record_majority(study)
    benchmark, first = study.next_trial(), study.next_trial()
    assert benchmark is not None
    assert first is not None
    data = WORKER_CACHE.training_data(study.folder.address, study.plan.data, "cpu", 2, 1.0)
    config = train_config(study.plan, benchmark.hparams, benchmark.seed, torch.device("cpu"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def record(fold_epoch: FoldEpoch, *_scores: object) -> None:
        report = report_of("benchmark", fold_epoch, None)
        study.report(replace(report, host=socket.gethostname()))

    train(config, data, record)
    torch.set_num_threads(threads)
    study.fail(first.id, "its worker was lost too often")
    assert study.next_trial() is not None
    return study


def replay(study: Study, *arguments: str) -> int:
    """Run the command, and return its exit code."""
    studies = str(Path(study.folder.address).parent)
    return run(["replay", *arguments, "--studies", studies, "--study", study.folder.name])


def contents(study: Study) -> dict[str, bytes]:
    """Return the files of the study."""
    files = Path(study.folder.address).rglob("*")
    return {str(file): file.read_bytes() for file in files if file.is_file()}


def altered_study(study: Study, place: Path, increase: float) -> Study:
    """Copy `study` with a larger objective of the benchmark's second fold-epoch."""
    copy = StudyFolder(place / "altered")
    shutil.copytree(study.folder.address, copy.address)
    shutil.rmtree(f"{copy.address}/journal")
    copy.remove(copy.JOURNAL_HEAD)
    journal = Journal(copy / copy.JOURNAL)
    for event in study.journal.events:
        if isinstance(event, FoldReport) and (event.trial, event.epoch) == ("benchmark", 2):
            assert event.objective is not None
            journal.append(replace(event, objective=event.objective + increase))
        else:
            journal.append(event)
    return Study(copy, study.plan)


def test_a_replay_has_exactly_the_recorded_objectives(
    trained: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    files = contents(trained)
    assert replay(trained, "benchmark") == 0
    output = capsys.readouterr().out
    assert "The objectives agree at tolerance 0; the largest difference is 0." in output
    recorded = [report.objective for report in trained.history.trials["benchmark"].reports]
    assert len(recorded) == 2
    for objective in recorded:
        assert output.count(f"{objective:.6f}") >= 2
    assert contents(trained) == files


def test_an_altered_record_is_reported(
    trained: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    altered = altered_study(trained, tmp_path, 0.01)
    assert replay(altered, "benchmark") == 1
    expected = "The objectives differ at tolerance 0; the largest difference is 0.01."
    assert expected in capsys.readouterr().out
    assert replay(altered, "benchmark", "--tolerance", "0.02") == 0
    assert replay(altered, "benchmark", "--folds", "1") == 0


def test_a_replay_that_is_not_possible_is_rejected_in_one_line(
    trained: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shards("12:240:4", tmp_path / "other", "synthetic", workers=1)
    cases = {
        "no trial 't9' in study 'small'; choose one of benchmark, t0000, t0001": ("t9",),
        "majority is the class-prior baseline, which is not trained": ("majority",),
        "t0000 has no fold-epoch to compare; it failed before (its worker was lost": ("t0000",),
        "t0001 has no fold-epoch to compare; wait for its first": ("t0001",),
        "--folds 3: benchmark has 2 folds; allowed are 1 to 2": ("benchmark", "--folds", "3"),
        "--folds 0: benchmark has 2": ("benchmark", "--folds", "0"),
        "--tolerance -1.0: must be a number": ("benchmark", "--tolerance", "-1"),
        "other shards than those of study 'small'": (
            *("benchmark", "--data", str(tmp_path / "other")),
        ),
    }
    for message, arguments in cases.items():
        assert replay(trained, *arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_the_new_folder_of_moved_shards_is_passed(
    trained: Study, shards: Path, tmp_path: Path
) -> None:
    shutil.copytree(shards, tmp_path / "moved")
    assert replay(trained, "benchmark", "--folds", "1", "--data", str(tmp_path / "moved")) == 0


def test_a_training_that_failed_fails_in_the_replay(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {**TREE["space"], "learning_rate": 100.0, "weight_decay": 10.0, "batch_size": 4}
    study = new_study(shards, tmp_path / "nan", TREE | {"space": {**space, "width": 4}})
    trial = next_searched(study)
    study.fail(trial.id, "nan-loss")
    assert replay(study, trial.id) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "recorded failure: nan-loss, replayed failure: nan-loss" in output


def test_another_machine_has_a_tolerance(trained: Study) -> None:
    trial, host = trained.history.trials["benchmark"], socket.gethostname()
    epochs = (EpochComparison(1, 0, 0.5, 0.51),)
    result = TrialReplay(trial, epochs, "", "", "cpu", True, frozenset())
    assert default_tolerance(result, host) == 0.0
    assert default_tolerance(result, "elsewhere") == OTHER_MACHINE_TOLERANCE
    assert default_tolerance(replace(result, on_cpu=False), host) == OTHER_MACHINE_TOLERANCE
    assert result.agrees(0.02)
    assert not result.agrees(0.001)
    assert not replace(result, failure="nan-loss").agrees(1.0)
    assert replace(result, probed_devices=frozenset({"gpu"})).uses_default_precision
