"""A study on a disk that is full: it halts, loses nothing, and goes on when there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raysearch.config.space_file import parse_space
from raysearch.search.journal.history import Trial
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import make_plan
from raysearch.search.study.study import Study, create_study, read_plan, read_splits
from raysearch.training.checkpoint import pack, unpack

TREE = {"epochs": 400, "trials": 2, "stopping": {"rule": "none"}, "space": {"folds": 2, "width": 4}}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB of our own."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def study(disk: Path, shards: Path) -> Study:
    splits = make_plan(parse_space(TREE, "x"), "x", str(shards))
    study = create_study(StudyFolder(disk / "x"), *splits)
    study.begin()
    benchmark = study.next_trial()
    assert benchmark is not None
    study.fail(benchmark.id, "not of interest here")
    return study


def fill(disk: Path, name: str, spare: int = 0) -> Path:
    """A file that leaves `spare` bytes of `disk`."""
    path = disk / name
    with path.open("wb") as file:
        free = os.statvfs(disk)
        file.write(bytes(free.f_bavail * free.f_frsize - spare))
    return path


def report_on(study: Study, trial: Trial) -> None:
    rest: dict[str, Any] = {"fold": 0, "loss": 1.0, "metrics": {"auroc": 0.5}, "seconds": 0.1}
    while study.report(trial.id, {"epoch": trial.epoch + 1, "objective": 0.5, **rest}):
        pass


def hidden(folder: StudyFolder) -> list[str]:
    return [one.name for one in folder.local.rglob(".*")]


def test_a_study_whose_disk_is_full_halts_and_goes_on_when_there_is_room(
    disk: Path, study: Study
) -> None:
    folder, trial = study.folder, study.next_trial()
    assert trial is not None
    other = fill(disk, "other", spare=40_000)
    with pytest.raises(OSError, match="No space left"):
        report_on(study, trial)
    assert study.halted is not None
    assert study.halted.startswith(f"{folder.path('journal')}: cannot be written (")
    assert "\n" not in study.halted
    assert study.next_trial() is None
    assert trial.epoch > 50
    assert hidden(folder) == []

    rest = fill(disk, "rest")
    full = Study(folder, read_plan(folder))
    assert full.journal.events == study.journal.events
    with pytest.raises(OSError, match="No space left"):
        full.begin()
    (folder.local / "journal" / ".000000000.jsonl.deadbeef").touch()  # as a kill leaves it

    other.unlink()
    rest.unlink()
    again = Study(folder, read_plan(folder))
    assert read_splits(folder, again.plan)
    again.begin()
    assert hidden(folder) == []
    resumed = again.next_trial()
    assert resumed is not None
    assert (resumed.id, resumed.epoch) == (trial.id, trial.epoch)
    report_on(again, resumed)
    assert resumed.status == "finished"


def test_a_checkpoint_leaves_room_for_the_journal_and_the_last_one_as_it_was(
    disk: Path, study: Study
) -> None:
    folder, trial = study.folder, study.next_trial()
    assert trial is not None
    folder.keep(trial.id, pack({"epoch": 1}))
    other = fill(disk, "other", spare=folder.SPARE + 500_000)
    place = folder.path(folder.checkpoint(trial.id))
    with pytest.raises(OSError, match=r"does not fit into the .* that are free") as rejected:
        folder.keep(trial.id, bytes(600_000))
    assert rejected.value.filename == place
    assert unpack(folder.read(folder.checkpoint(trial.id))) == {"epoch": 1}
    assert hidden(folder) == []
    assert study.report(
        trial.id,
        {"epoch": 1, "fold": 0, "objective": 0.5, "loss": 1.0, "metrics": {}, "seconds": 0.1},
    )
    for _ in range(3):  # as its workers say
        study.requeue(trial.id, f"host: {rejected.value}")
    assert study.halted is not None
    assert place in study.halted
    other.unlink()
    folder.keep(trial.id, bytes(600_000))
