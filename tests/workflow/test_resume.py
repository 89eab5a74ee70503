"""Interrupted and damaged studies are resumed, with real Ray, Optuna and MLflow."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from conftest import Commands
from raysearch.data.files import Folder
from raysearch.data.shards.sharding import write_shards
from raysearch.search.journal.events import (
    FoldReport,
    StudyLaunched,
)
from raysearch.search.journal.journal import Journal
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.stored_study import load_study
from support.launched_studies import (
    check_mlflow_has_the_history,
    check_only_the_best_trial_has_a_checkpoint,
    check_repeated_decisions,
    check_rung_decisions,
    prepare_launch,
    read_bytes_or_nothing,
    reject_another_space,
    runs,
    session_of,
    study,
    unfinished_checkpoints,
    wait_for_reports,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize(
    "signal_number",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGINT, marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, marks=pytest.mark.long),
    ],
)
def test_a_killed_study_resumes_as_if_it_had_not_been_interrupted(
    run: Commands, shards: Path, signal_number: signal.Signals
) -> None:
    rule = {9: "promotion", 2: "forest", 15: "asha"}[signal_number.value]
    sampler = "forest" if rule == "forest" else "tpe"
    prepare_launch(run.folder, epochs=8, stopping=f"{{rule: {rule}}}", sampler=sampler)
    first = run.start("launch", "small.yaml", "--data", str(shards))
    wait_for_reports(run, 12)
    start = time.monotonic()
    first.send_signal(signal_number)
    out, err = first.communicate(timeout=200)
    assert first.returncode == {9: -9, 2: 130, 15: 143}[signal_number.value], out + err
    if signal_number is not signal.SIGKILL:
        assert time.monotonic() - start < 90
        assert "--resume" in out
        assert "Traceback" not in out + err
        parent, children, baselines = runs(run)
        assert "RUNNING" not in {each.info.status for each in (parent, *children, *baselines)}
    first_events = Journal(study(run) / "journal").events
    assert (
        "exists already"
        in run("launch", "small.yaml", "--data", str(shards), "--name", "small", code=2).stderr
    )
    reject_another_space(run, shards)
    moved = run.folder / "moved"  # the data may have moved meanwhile
    shutil.copytree(shards, moved)
    run("launch", "small.yaml", "--data", str(moved), "--resume")
    all_events = Journal(study(run) / "journal").events
    assert all_events[: len(first_events)] == first_events
    history = load_study(study(run)).history
    assert len(history.searched()) == 6
    assert "failed" not in {trial.status for trial in history.trials.values()}
    reports = [(event.trial, event.epoch) for event in all_events if isinstance(event, FoldReport)]
    assert len(reports) == len(set(reports))
    for trial in history.searched():
        assert [report.epoch for report in trial.reports] == list(range(1, trial.epoch + 1))
    check_repeated_decisions(run)
    if rule == "asha":
        check_rung_decisions(history, run)
    check_mlflow_has_the_history(run, history)
    check_only_the_best_trial_has_a_checkpoint(run, history)


@pytest.mark.long
def test_a_trial_with_a_damaged_checkpoint_starts_again_with_a_warning(
    run: Commands, shards: Path
) -> None:
    epochs = 60  # so long that the ten seconds to a checkpoint end within the training
    prepare_launch(run.folder, epochs=epochs, trials="2", stopping="{rule: none}")
    first = run.start("launch", "small.yaml", "--data", str(shards))
    deadline = time.monotonic() + 400
    while not unfinished_checkpoints(run) and time.monotonic() < deadline:
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=200)
    assert first.returncode == 130, out + err
    first_events = Journal(study(run) / "journal").events
    checkpoints = unfinished_checkpoints(run)
    for path in checkpoints:
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    process = run("launch", "small.yaml", "--data", str(shards), "--resume")
    warnings = [
        line for line in (process.stdout + process.stderr).splitlines() if "starts from its" in line
    ]
    assert len(warnings) == len(checkpoints) > 0
    assert all(f"{path}: the checkpoint's hash" in " ".join(warnings) for path in checkpoints)
    all_events = Journal(study(run) / "journal").events
    assert all_events[: len(first_events)] == first_events
    history = load_study(study(run)).history
    for trial in history.searched():
        assert (trial.status, trial.epoch) == ("finished", 2 * epochs)
        assert [report.epoch for report in trial.reports] == list(range(1, 2 * epochs + 1))
    check_mlflow_has_the_history(run, history)


def test_lost_workers_do_not_lose_their_trials_and_a_second_launcher_is_rejected(
    run: Commands, shards: Path
) -> None:
    prepare_launch(run.folder, epochs=8)
    first = run.start("launch", "small.yaml", "--data", str(shards))
    wait_for_reports(run, 4)
    workers = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if b"ray::ImplicitFunc" in read_bytes_or_nothing(path) and session_of(path) == first.pid
    ]
    assert len(workers) == 2  # every slot's
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    error = run("launch", "small.yaml", "--data", str(shards), "--resume", code=2).stderr
    assert f"being run by process {first.pid} on" in error
    out, err = first.communicate(timeout=400)
    assert first.returncode == 0, out + err
    history = load_study(study(run)).history
    assert [trial.status for trial in history.trials.values()].count("failed") == 0
    for trial in history.searched():
        assert [report.epoch for report in trial.reports] == list(range(1, trial.epoch + 1))
    check_rung_decisions(history, run)
    check_mlflow_has_the_history(run, history)


def test_damaged_shards_fail_no_trial(run_on_cluster: Commands) -> None:
    """The damage is in the pixels, which the plan does not read; the study can be resumed."""
    run = run_on_cluster
    prepare_launch(run.folder, 1)
    data = run.folder / "data"
    write_shards("12:240:9", data, "synthetic", workers=1)
    part = next(data.glob("part-*.parquet"))
    good = part.read_bytes()
    part.write_bytes(good[:5000] + bytes([good[5000] ^ 1]) + good[5001:])
    error = run("launch", "small.yaml", "--data", str(data), code=2).stderr
    assert "its hash is not the manifest's" in error
    assert "--resume" in error
    assert error.count("\n") == 1
    history = load_study(study(run)).history
    assert "failed" not in {trial.status for trial in history.trials.values()}
    part.write_bytes(good)
    run("launch", "small.yaml", "--data", str(data), "--resume")
    assert len(load_study(study(run)).history.searched()) == 6


def test_a_study_on_s3_can_be_resumed(run_on_cluster: Commands, bucket: str, shards: Path) -> None:
    run = run_on_cluster
    data = Folder(f"{bucket}/small")
    for path in shards.glob("*.*"):
        data.write(path.name, path.read_bytes())
    prepare_launch(run.folder, 2)
    words = ("launch", "small.yaml", "--data", data.address, "--studies", f"{bucket}/studies")
    run(*words)
    folder = StudyFolder(f"{bucket}/studies/small")
    history = load_study(folder).history
    assert [trial.status for trial in history.searched()].count("running") == 0
    assert len(history.searched()) == 6
    assert folder.exists("champion.pt")
    assert not (run.folder / "studies").exists()
    out = run("results", "--studies", f"{bucket}/studies").stdout
    assert "Leaderboard of small" in out
    first_events = Journal(folder / "journal").events
    run(*words, "--resume")
    further_events = Journal(folder / "journal").events[len(first_events) :]
    assert [type(event) for event in further_events] == [StudyLaunched]
    check_mlflow_has_the_history(run, history)
