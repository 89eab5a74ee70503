"""The list of studies, and the export of one."""

import json
from pathlib import Path

import pytest

from raysearch.cli import run
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.launcher_lock import launcher_lock
from support.result_studies import TREE, new_study, train_next


def test_the_studies_of_a_folder_are_listed(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "studies")
    assert run(["studies", "--studies", folder]) == 2
    assert "no study in" in capsys.readouterr().err
    study = new_study(shards, tmp_path / "studies" / "first")
    train_next(study, 3)
    damaged = tmp_path / "studies" / "damaged" / "plan.json"
    damaged.parent.mkdir()
    damaged.write_text("{")
    assert run(["studies", "--studies", folder]) == 0
    lines = capsys.readouterr().out.splitlines()
    [line] = [line for line in lines if " first " in line]
    num_trials = len(study.history.searched())
    assert f"{num_trials}/{TREE['trials']}" in line
    assert any("damaged" in line for line in lines)
    assert run(["studies", "--studies", folder, "--json"]) == 0
    summaries = {row["name"]: row for row in json.loads(capsys.readouterr().out)["studies"]}
    assert summaries["first"]["num_started"] == num_trials
    assert summaries["damaged"]["error"]


def test_a_study_that_starts_is_listed(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "studies")
    with launcher_lock(StudyFolder(f"{folder}/new")):
        for num_others in (0, 1):
            assert run(["studies", "--studies", folder, "--json"]) == 0
            first, *others = json.loads(capsys.readouterr().out)["studies"]
            assert (first["name"], first["state"]) == ("new", "starting")
            assert first["launcher"].startswith("process ")
            assert len(others) == num_others
            new_study(shards, tmp_path / "studies" / f"old-{num_others}")
        assert run(["status", "--studies", folder]) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if " new " in line]
        assert "starting" in line
    assert run(["studies", "--studies", folder, "--json"]) == 0
    names = {row["name"] for row in json.loads(capsys.readouterr().out)["studies"]}
    assert names == {"old-0", "old-1"}


def test_a_folder_before_export_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["studies", "--studies", "elsewhere", "export", "first", "x.log"]) == 2
    assert "--studies before `export` has no effect; give it after" in capsys.readouterr().err


def test_the_export_names_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["studies", "export", "none", "missing/x.log"]) == 2
    assert "no folder missing" in capsys.readouterr().err
