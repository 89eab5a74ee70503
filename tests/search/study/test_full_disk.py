"""A study on a full disk halts, loses nothing, and can be resumed when there is space."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysearch.config.space_file import parse_space
from raysearch.search.journal.events import FoldReport
from raysearch.search.journal.history import Trial
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan_creation import make_plan
from raysearch.search.study.stored_study import read_plan, read_splits
from raysearch.search.study.study import Study, create_study
from raysearch.training.checkpoint import pack, unpack

TREE = {"epochs": 400, "trials": 2, "stopping": {"rule": "none"}, "space": {"folds": 2, "width": 4}}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB of our own."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)]
    try:
        process = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if process.returncode:
        pytest.skip("mounting is not allowed here")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.fixture
def study(disk: Path, shards: Path) -> Study:
    splits = make_plan(parse_space(TREE, "x"), "x", str(shards))
    study = create_study(StudyFolder(disk / "x"), *splits)
    study.begin()
    benchmark = study.next_trial()
    assert benchmark is not None
    study.fail(benchmark.id, "not of interest here")
    return study


def fill(disk: Path, name: str, free_bytes: int = 0) -> Path:
    """A file that leaves `free_bytes` of `disk`."""
    path = disk / name
    with path.open("wb") as file:
        statistics = os.statvfs(disk)
        file.write(bytes(statistics.f_bavail * statistics.f_frsize - free_bytes))
    return path


def report_to_the_end(study: Study, trial: Trial) -> None:
    while study.report(FoldReport(trial.id, 0, trial.epoch + 1, 0.5, {"auroc": 0.5}, 1.0, 0.1)):
        pass


def partial_files(folder: StudyFolder) -> list[str]:
    return [path.name for path in folder.local.rglob(".*")]


def test_a_study_on_a_full_disk_halts_and_can_be_resumed(disk: Path, study: Study) -> None:
    folder, trial = study.folder, study.next_trial()
    assert trial is not None
    first_file = fill(disk, "first", free_bytes=40_000)
    with pytest.raises(OSError, match="No space left"):
        report_to_the_end(study, trial)
    assert study.halt_reason is not None
    assert study.halt_reason.startswith(f"{folder.path('journal')}: cannot be written (")
    assert "\n" not in study.halt_reason
    assert study.next_trial() is None
    assert trial.epoch > 50
    assert partial_files(folder) == []

    second_file = fill(disk, "second")
    full = Study(folder, read_plan(folder))
    assert full.journal.events == study.journal.events
    with pytest.raises(OSError, match="No space left"):
        full.begin()
    (folder.local / "journal" / ".000000000.jsonl.deadbeef").touch()  # as a kill leaves it

    first_file.unlink()
    second_file.unlink()
    resumed_study = Study(folder, read_plan(folder))
    assert read_splits(folder, resumed_study.plan)
    resumed_study.begin()
    assert partial_files(folder) == []
    resumed = resumed_study.next_trial()
    assert resumed is not None
    assert (resumed.id, resumed.epoch) == (trial.id, trial.epoch)
    report_to_the_end(resumed_study, resumed)
    assert resumed.status == "finished"


def test_a_checkpoint_leaves_space_for_the_journal_and_retains_the_last_one(
    disk: Path, study: Study
) -> None:
    folder, trial = study.folder, study.next_trial()
    assert trial is not None
    folder.write_checkpoint(trial.id, pack({"epoch": 1}))
    first_file = fill(disk, "first", free_bytes=folder.RESERVED_BYTES + 500_000)
    path = folder.path(folder.checkpoint(trial.id))
    with pytest.raises(OSError, match=r"does not fit into the .* free bytes") as rejected:
        folder.write_checkpoint(trial.id, bytes(600_000))
    assert rejected.value.filename == path
    assert unpack(folder.read(folder.checkpoint(trial.id))) == {"epoch": 1}
    assert partial_files(folder) == []
    assert study.report(FoldReport(trial.id, 0, 1, 0.5, {}, 1.0, 0.1))
    for _ in range(3):  # as its workers say
        study.requeue(trial.id, f"host: {rejected.value}")
    assert study.halt_reason is not None
    assert path in study.halt_reason
    first_file.unlink()
    folder.write_checkpoint(trial.id, bytes(600_000))
