"""The planned number of trials of a launch, and the command that resumes it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raysearch.cli import launch_study, run
from raysearch.cli.event_stream import EventStream
from raysearch.cli.launch_advice import NOT_STORED, LaunchAdvice
from raysearch.cli.launch_study import (
    LaunchOptions,
    _known_data,
    _planned_trials,
    _with_memory,
    resume_command,
)
from raysearch.cli.time_probe import ProbedSpeeds
from raysearch.config.space_file import parse_space
from raysearch.errors import DataError, SpaceError, StudyError
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan_creation import reject_changes
from raysearch.search.study.speed_cache import NetworkSpeed, probed_configurations
from raysearch.search.study.stored_study import load_study
from support.launched_studies import write_space
from support.result_studies import TREE, new_study, train_next


def test_trials_are_added_to_a_study_and_never_removed(shards: Path, tmp_path: Path) -> None:
    study = new_study(shards, tmp_path / "first", TREE)
    plan, history, space = study.plan, study.history, study.plan.space
    assert _planned_trials(None, space, plan, history) == 12
    assert _planned_trials("+5", space, plan, history) == 17
    assert _planned_trials("13", space, plan, history) == 13
    assert _planned_trials("7", space, None, None) == 7
    study.begin(17)
    assert _planned_trials("+5", space, plan, history) == 22
    for text in ("0", "+0", "-3", "1.5", "many", "+"):
        with pytest.raises(SpaceError, match="give 1 or more"):
            _planned_trials(text, space, plan, history)
    with pytest.raises(StudyError, match="has 17 already"):
        _planned_trials("12", space, plan, history)
    with pytest.raises(SpaceError, match="a new study has no trials to add to"):
        _planned_trials("+5", space, None, None)
    assert load_study(study.folder).history.planned(12) == 17


def test_a_resume_reads_the_data_of_the_study_unless_they_are_gone(
    shards: Path, tmp_path: Path
) -> None:
    stored = load_study(new_study(shards, tmp_path / "first", TREE).folder)
    space = replace(stored.plan.space, data="synthetic:20:40:0")
    assert _known_data(space, None) == "synthetic:20:40:0"
    assert _known_data(space, stored) == stored.plan.data == str(shards)
    gone = replace(stored, plan=replace(stored.plan, data=str(tmp_path / "gone")))
    assert _known_data(space, gone) == "synthetic:20:40:0"
    assert _known_data(replace(space, data=None), gone) == str(tmp_path / "gone")


def test_a_launch_is_resumed_only_after_its_study_is_stored(shards: Path, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "first")
    advice = LaunchAdvice(folder, "raysearch launch x --resume", EventStream())
    advice.on_status("choosing precisions")
    assert advice.text() == NOT_STORED
    new_study(shards, tmp_path / "first", TREE)
    assert advice.text() == "state saved. Resume with: raysearch launch x --resume"


@pytest.mark.parametrize(
    ("data", "studies", "options"),
    [
        (None, "studies", ""),
        ("data/my shards", "studies", "--data 'data/my shards' "),
        (None, "s3://bucket/studies", "--studies s3://bucket/studies "),
    ],
)
def test_the_command_that_resumes_names_the_data_and_the_studies(
    data: str | None, studies: str, options: str
) -> None:
    launched = LaunchOptions(
        space=Path("idc.yaml"),
        data=data,
        trials="12",
        seed=3,
        name=None,
        resume=False,
        dry_run=False,
        studies=studies,
        as_json=False,
    )
    expected = f"raysearch launch idc.yaml {options}--name idc-2 --resume"
    assert resume_command(launched, "idc-2") == expected


def test_overrides_are_part_of_the_command_that_resumes() -> None:
    launched = LaunchOptions(
        space=Path("idc.yaml"),
        data=None,
        trials=None,
        seed=None,
        name=None,
        resume=False,
        dry_run=False,
        studies="studies",
        as_json=False,
        overrides=("epochs=2", "space.width={int: [4, 8]}"),
    )
    expected = "raysearch launch idc.yaml epochs=2 'space.width={int: [4, 8]}' --name idc --resume"
    assert resume_command(launched, "idc") == expected
    without_space = replace(launched, space=None, overrides=("epochs=2",))
    expected = "raysearch launch epochs=2 --name default --resume"
    assert resume_command(without_space, "default") == expected


@pytest.mark.parametrize(
    ("override", "required"),
    [("resources={cpus: 1, gpus: 1}", "1 and 1;"), ("resources={cpus: 1024}", "1024 and 0;")],
)
def test_a_plan_that_this_machine_cannot_run_is_rejected_and_leaves_no_study(
    tmp_path: Path,
    shards: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    override: str,
    required: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    write_space(tmp_path)
    for words in (("--dry-run",), ("--name", "big")):
        code = run(["launch", "small.yaml", override, "--data", str(shards), *words])
        error = capsys.readouterr().err
        assert (code, error.count("\n")) == (2, 1)
        assert f"a trial requires {required} lower `resources`" in error
    assert not (tmp_path / "studies").exists()


def test_a_dry_run_for_a_cluster_asks_for_no_machine_and_has_unknown_times(
    tmp_path: Path,
    shards: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYSEARCH_CACHE", str(tmp_path / "cache"))
    write_space(tmp_path)
    # The file of the cluster does not exist: it is not read.
    command = ["launch", "small.yaml", "--data", str(shards), "--dry-run", "--on", "none.yaml"]
    # More cores than this machine has; the cluster may have them.
    assert run([*command, "resources={cpus: 1024}", "--json"]) == 0
    times = json.loads(capsys.readouterr().out)["expected_time"]
    assert times["seconds"] is None
    assert times["unknown"] == {"cnn": "no node of the cluster has measured it"}
    assert run(command) == 0
    assert "unknown; cnn: no node of the cluster has measured it" in capsys.readouterr().out
    assert not (tmp_path / "cache" / "speeds").exists()


def test_a_dry_run_of_a_resume_has_the_remaining_time(
    tmp_path: Path,
    shards: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    speed = NetworkSpeed(0.01, 0.001, 0.0)
    monkeypatch.setattr(
        launch_study,
        "probe_speeds",
        lambda plan: ProbedSpeeds(dict.fromkeys(probed_configurations(plan), speed)),
    )
    (tmp_path / "first.yaml").write_text(json.dumps(TREE))
    command = ["launch", "first.yaml", "--data", str(shards), "--dry-run"]

    def plan_of(*words: str) -> Any:
        assert run([*command, *words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    whole = plan_of()["expected_time"]
    study = new_study(shards, tmp_path / "studies" / "first")
    train_next(study, 12)
    study.finalize()
    best = study.history.best(None, "max")
    assert best is not None
    study.record_refit(best, "0")  # a step after the search
    plan = plan_of("--resume")
    ended = plan["expected_time"]
    assert (whole["is_remaining"], ended["is_remaining"]) == (False, True)
    assert ended["search_seconds"] == 0 < whole["search_seconds"]
    extended = plan_of("--resume", "--trials", "+24")
    assert (plan["space"]["trials"], extended["space"]["trials"]) == (12, 36)
    assert extended["max_fold_epochs"] > plan["max_fold_epochs"]
    assert extended["expected_time"]["search_seconds"] > 1
    assert extended["expected_time"]["after_search_seconds"] > ended["after_search_seconds"]
    assert run([*command, "--resume"]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "remaining time" in line]
    assert "of the search" in row
    assert len(load_study(study.folder).events) == len(study.journal.events)


def test_a_resume_has_the_memory_of_the_study_unless_an_option_names_another(
    shards: Path, tmp_path: Path
) -> None:
    space = parse_space(TREE | {"memory": "studies"}, "x")
    stored = load_study(new_study(shards, tmp_path / "first", TREE).folder)
    assert _with_memory(space, None, None).memory == "studies"
    assert _with_memory(space, "none", None).memory == "none"
    cold = replace(space, memory="none")
    assert _with_memory(cold, None, stored).memory == "studies"
    changed = _with_memory(stored.plan.space, "none", stored)
    with pytest.raises(StudyError, match=r"another space: memory was studies, is none; restore"):
        reject_changes(stored.plan, replace(stored.plan, space=changed))
    with pytest.raises(DataError, match="contains a password"):
        _with_memory(space, "s3://user:password@bucket/studies", None)
