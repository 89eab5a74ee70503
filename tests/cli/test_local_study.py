"""A study of this machine is followed and stopped by its name, without a cluster file."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import Commands
from raysearch.cli import local_study as local_study_module
from raysearch.cli import run as run_command
from raysearch.cli import study_state
from raysearch.cli.local_study import end_text, state_text, stop
from raysearch.cli.study_state import StudySummary, current_state
from raysearch.errors import StudyError
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.launcher_lock import launcher_lock
from raysearch.search.study.slow_hosts import SlowHost
from raysearch.search.study.stored_study import StudySnapshot, load_study
from raysearch.search.study.study import Study
from support.champion_studies import REFIT_DECISION
from support.launched_studies import prepare_launch, runs, wait_for_reports
from support.lease_locks import HERE
from support.result_studies import TREE, new_study, next_searched, report_epochs, train_next

# MLflow and SQLAlchemy warn of what they will remove.
pytestmark = pytest.mark.filterwarnings("ignore")
# A process that holds the lock of a study until it is ended.
HOLD = """
import sys, time
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.launcher_lock import launcher_lock
with launcher_lock(StudyFolder(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def lock_holder(folder: StudyFolder, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A process with the arguments `words` that holds the lock of `folder`."""
    command = [sys.executable, "-c", HOLD, folder.address, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_a_running_study_is_followed_stopped_and_resumed_without_its_data(
    run_on_cluster: Commands, shards: Path
) -> None:
    run = run_on_cluster
    # A cluster file beside the study is of no interest to a study of this machine.
    (run.folder / "cluster.yaml").write_text("provider: {type: aws}\n")
    prepare_launch(run.folder, epochs=2000)
    launcher = run.start("launch", "small.yaml", "--data", str(shards))
    try:
        wait_for_reports(run, 2)
        running = run("status", "small").stdout
        assert "small: running as process" in running
        assert f"on {socket.gethostname()}" in running
        assert re.search(r"; about .+ left \(.+ to .+\)", running)
        assert "running" in run("studies").stdout
        _stop_one_trial_and_exclude_a_value(run)
        attached = run.start("attach", "small")
        left = run.start("attach", "small")
        assert left.stdout is not None
        assert "following small" in left.stdout.readline()
        left.send_signal(signal.SIGINT)
        assert "small is still running" in left.communicate(timeout=180)[0]
        assert left.returncode == 0
        assert "--resume" in run("stop", "small").stdout
        assert launcher.wait(120) == 143
    finally:
        launcher.kill()
        launcher.communicate()
    followed = attached.communicate(timeout=180)[0]
    assert attached.returncode == 0
    assert "small: interrupted" in followed
    assert "small: interrupted" in run("status", "small").stdout
    assert "small: interrupted" in run("stop", "small").stdout
    _stop_trials_without_a_launcher(run)
    plan = run("launch", "small.yaml", "--name", "small", "--resume", "--dry-run").stdout
    assert str(shards) in plan


def _stop_one_trial_and_exclude_a_value(run: Commands) -> None:
    """The launcher ends the trials within seconds, although their fold-epochs go on."""
    folder = StudyFolder(run.folder / "studies" / "small")
    first = load_study(folder).history.searched()[0]
    text = run("stop", "small", "--trial", first.id, "--exclude", "width=4").stdout
    assert text == f"small: {first.id} is stopped, width=4 is excluded\n"
    history = load_study(folder).history
    assert history.trials[first.id].reason == "stopped by the user"
    assert all(trial.hparams["width"] == 8 for trial in history.running() if trial.kind == "trial")
    assert "has ended already" in run("stop", "small", "--trial", first.id, code=2).stderr
    assert "last value of width" in run("stop", "small", "--exclude", "width=8", code=2).stderr
    num_reports = sum(len(trial.reports) for trial in history.searched())
    wait_for_reports(run, num_reports + 2)  # the search goes on
    assert load_study(folder).history.trials[first.id].epoch == history.trials[first.id].epoch


def _stop_trials_without_a_launcher(run: Commands) -> None:
    folder = StudyFolder(run.folder / "studies" / "small")
    last = load_study(folder).history.searched()[-1]
    text = run("stop", "small", "--trial", last.id).stdout
    assert text == f"small: {last.id} is stopped\n"
    assert load_study(folder).history.trials[last.id].status == "stopped"
    assert ", without width=4" in run("status", "small").stdout
    stopped = {trial.id for trial in load_study(folder).history.searched() if trial.ended}
    _parent, children, _baselines = runs(run)
    tags = {child.data.tags["raysearch.trial"]: child for child in children}
    for name in stopped:
        assert (tags[name].info.status, tags[name].data.tags["state"]) == ("KILLED", "stopped")


def test_a_study_that_does_not_exist_is_rejected_with_both_places_to_look(run: Commands) -> None:
    for command in ("status", "attach", "stop"):
        error = run(command, "nothing", code=2).stderr
        assert error.count("\n") == 1
        assert "no study 'nothing' in" in error
        assert "--on PLACE" in error


def test_a_launcher_of_another_machine_is_not_stopped(
    small_champion_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small_champion_study.folder
    with launcher_lock(folder):
        text = (folder.local / folder.LOCK).read_text()
        (folder.local / folder.LOCK).write_text(text.replace(socket.gethostname(), "elsewhere"))
        monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a signal is sent"))
        with pytest.raises(StudyError, match="on elsewhere, which this machine cannot stop"):
            stop(folder)


@pytest.mark.parametrize("pid", [-1, 0, 1])
def test_no_signal_is_sent_to_a_process_that_a_lease_only_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid: int
) -> None:
    folder = StudyFolder(f"memory://{tmp_path}/x")
    monkeypatch.setattr(local_study_module, "RELEASE_TIMEOUT_S", 0.0)
    lease = {"host": socket.gethostname(), "pid": pid, "token": "ab", "renewed": time.time()}
    folder.write(folder.LOCK, json.dumps(lease).encode())
    monkeypatch.setattr(os, "kill", lambda pid, number: number == 0 or pytest.fail(f"{pid}"))
    with pytest.raises(StudyError, match="cannot stop; run this command"):
        stop(folder)


def test_only_a_process_of_raysearch_that_launches_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = StudyFolder(tmp_path / "x")
    monkeypatch.setattr(local_study_module, "RELEASE_TIMEOUT_S", 0.0)
    for words in (("raysearch", "status"), ("vim", "raysearch.txt", "launch")):
        with lock_holder(folder, *words) as process:
            with pytest.raises(StudyError, match="this account and container cannot stop"):
                stop(folder)
            assert process.poll() is None
    with lock_holder(folder, "/usr/bin/raysearch", "launch") as process:
        text = stop(folder)
        assert process.wait(10) == -signal.SIGTERM
    assert text == "x: its launcher ended before the study was stored; launch it again"


def test_the_state_of_a_running_study_names_slow_hosts(tmp_path: Path) -> None:
    slow = (SlowHost("node2", 3.04), SlowHost("node3", 2.1))
    summary = StudySummary("x", "running", "process 1 on node1", {"running": 2}, 2, 8)
    folder = StudyFolder(tmp_path / "x")
    text = "x: running as process 1 on node1; 2 of 8 trials (2 running)"
    assert state_text(folder, summary) == text
    assert state_text(folder, replace(summary, slow_hosts=slow)) == (
        f"{text}; node2 takes 3.0 times as long as the other hosts; node3 takes 2.1 times as long"
        " as the other hosts"
    )


def test_a_study_is_known_while_its_launcher_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = StudyFolder(tmp_path / "x")
    options = ["--studies", str(tmp_path)]
    with lock_holder(folder) as process:

        def end_the_launcher(_seconds: float) -> None:
            process.kill()
            process.wait()

        starting = f"x: starting as process {process.pid} on {socket.gethostname()}"
        assert run_command(["status", "x", *options]) == 0
        assert capsys.readouterr().out == f"{starting}\n"
        assert run_command(["status", "x", "--json", *options]) == 0
        assert json.loads(capsys.readouterr().out)["state"] == "starting"
        clock = SimpleNamespace(sleep=end_the_launcher)
        monkeypatch.setattr(local_study_module, "time", clock)
        assert run_command(["attach", "x", *options]) == 0
        lines = capsys.readouterr().out
        assert starting in lines
        assert "its launcher ended before the study was stored" in lines


def trained_study(shards: Path, folder: Path) -> Study:
    """A study of two trials with a champion."""
    study = new_study(shards, folder, TREE | {"trials": 2, "stopping": {"rule": "none"}})
    trials = [next_searched(study) for _ in range(2)]
    for trial in trials:
        report_epochs(study, trial)
    study.record_champion(trials[0], REFIT_DECISION)
    return study


def state_of(study: Study) -> StudySummary:
    return current_state(study.folder)[0]


def test_a_study_with_a_champion_ends_again_after_it_is_extended(
    shards: Path, tmp_path: Path
) -> None:
    study = trained_study(shards, tmp_path / "x")
    assert state_of(study).state == "ended"
    study.begin(3)
    assert state_of(study).state == "interrupted"
    trial = next_searched(study)
    assert state_of(study).trials == {"finished": 2, "interrupted": 1}
    with launcher_lock(study.folder):
        assert state_of(study).trials == {"finished": 2, "running": 1}
    report_epochs(study, trial)
    assert state_of(study).state == "ended"


def test_a_launcher_that_ends_while_its_study_is_read_counts_as_running(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = trained_study(shards, tmp_path / "x")
    with ExitStack() as lock:
        lock.enter_context(launcher_lock(study.folder))

        def load_while_the_launcher_ends(folder: StudyFolder) -> StudySnapshot:
            lock.close()
            return load_study(folder)

        monkeypatch.setattr(study_state, "load_study", load_while_the_launcher_ends)
        assert state_of(study).state == "running"
    assert state_of(study).state == "ended"


def test_a_study_whose_lock_cannot_be_read_does_not_end_the_list(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "second"):
        train_next(new_study(shards, tmp_path / name), 1)
    (tmp_path / "first" / StudyFolder.LOCK).symlink_to(tmp_path / "elsewhere")
    assert run_command(["studies", "--studies", str(tmp_path), "--json"]) == 0
    states = {row["name"]: row["state"] for row in json.loads(capsys.readouterr().out)["studies"]}
    assert states == {"first": "unreadable", "second": "interrupted"}


def test_a_printed_command_names_the_folder_of_the_study(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAYSEARCH_STUDIES", raising=False)
    monkeypatch.chdir(tmp_path)
    study = trained_study(shards, tmp_path / "my studies" / "x")
    option = f" --studies '{tmp_path}/my studies'"
    assert end_text(study.folder).endswith(f"See: raysearch results x{option}")
    with launcher_lock(study.folder):
        with pytest.raises(StudyError) as caught, launcher_lock(study.folder):
            pass
        assert f"run by {HERE}; wait for it, or end it with `raysearch stop x{option}`" in str(
            caught.value
        )
    monkeypatch.setenv("RAYSEARCH_STUDIES", "my studies")
    assert end_text(study.folder).endswith("See: raysearch results x")
    monkeypatch.setenv("RAYSEARCH_ON", "cluster.yaml")
    assert end_text(study.folder).endswith(f"See: raysearch results x{option}")


@pytest.mark.parametrize("command", ["status", "attach", "stop", "results"])
def test_a_folder_on_the_command_line_takes_precedence_over_a_cluster_of_the_environment(
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    train_next(new_study(shards, tmp_path / "x"), 1)
    monkeypatch.setenv("RAYSEARCH_ON", "none.yaml")
    assert run_command([command, "x"]) == 2
    assert "none.yaml: no such file; name the file that `ray up` started" in capsys.readouterr().err
    assert run_command([command, "x", "--studies", str(tmp_path)]) == 0
    capsys.readouterr()
    assert run_command([command, "x", "--studies", str(tmp_path), "--on", "no.yaml"]) == 2
    error = capsys.readouterr().err
    assert "--on no.yaml: the study is in a folder or on a cluster; give one" in error
    assert error.count("\n") == 1
