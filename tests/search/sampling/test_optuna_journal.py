"""An Optuna journal follows a study, and is read by Optuna and its dashboard meanwhile."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from conftest import Commands, await_answer
from raysearch.cli import run as run_command
from raysearch.cli.studies_follow import FollowedExport, follow_export
from raysearch.errors import StudyError
from raysearch.search.journal.history import History
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.sampling.optuna_export import ExportedStudy, export_study
from raysearch.search.sampling.optuna_journal import optuna_journal
from raysearch.search.study.launcher_lock import launcher_lock
from raysearch.search.study.study import Study
from support.result_studies import TREE, fold_report, new_study, next_searched, report_epochs

TIMEOUT_S = 60.0


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    """A study without trials, every one of which reaches its end."""
    return new_study(shards, tmp_path / "studies" / "first", TREE | {"stopping": {"rule": "none"}})


def exported(study: Study) -> ExportedStudy:
    plan = study.plan
    return ExportedStudy(plan.name, plan.space, plan.fingerprint, plan.identity, study.history)


def trials_in(path: Path) -> list[optuna.trial.FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.load_study(study_name=None, storage=storage).trials


def update(study: Study, path: Path) -> None:
    """Append what the study has, by a new process of the command."""
    with optuna_journal(exported(study), path) as journal:
        journal.update()


def train_each_state(study: Study) -> None:
    """Three trials: one finished, one failed, one that runs."""
    report_epochs(study, next_searched(study))
    study.fail(next_searched(study).id, "nan-loss")
    report_epochs(study, next_searched(study), max_epochs=2)


def test_a_file_that_follows_has_what_an_export_at_the_end_has(
    study: Study, tmp_path: Path
) -> None:
    """After every event, with a new writer for every other one."""
    (tmp_path / "copy").mkdir()
    train_each_state(study)
    report_epochs(study, study.history.running()[0])
    history = History()
    growing = replace(exported(study), history=history)
    for event in study.journal.events:
        history.apply(event)
        with optuna_journal(growing, tmp_path / "a.log") as journal:
            journal.update()
            journal.update()
    export_study(exported(study), tmp_path / "b.log")
    followed, at_the_end = trials_in(tmp_path / "a.log"), trials_in(tmp_path / "b.log")
    assert [vars(trial) for trial in followed] == [vars(trial) for trial in at_the_end]
    assert {trial.state.name for trial in followed} == {"COMPLETE", "FAIL"}
    ended = followed[0].datetime_complete
    assert isinstance(ended, datetime)
    first = study.history.searched()[0]
    assert ended.timestamp() == pytest.approx(first.ended, abs=1e-3)


def test_nothing_is_appended_twice(study: Study, tmp_path: Path) -> None:
    train_each_state(study)
    path = tmp_path / "a.log"
    update(study, path)
    content = path.read_bytes()
    update(study, path)
    assert path.read_bytes() == content
    report_epochs(study, study.history.running()[0], max_epochs=1)
    update(study, path)
    assert path.read_bytes().startswith(content)
    assert len(trials_in(path)[-1].intermediate_values) == 3


def test_an_export_is_continued(study: Study, tmp_path: Path) -> None:
    train_each_state(study)
    export_study(exported(study), tmp_path / "a.log")
    report_epochs(study, study.history.running()[0])
    update(study, tmp_path / "a.log")
    assert [trial.state.name for trial in trials_in(tmp_path / "a.log")] == [
        "COMPLETE",
        "FAIL",
        "COMPLETE",
    ]


def test_a_line_that_a_killed_process_has_begun_is_removed(study: Study, tmp_path: Path) -> None:
    train_each_state(study)
    path = tmp_path / "a.log"
    update(study, path)
    content = path.read_bytes()
    path.write_bytes(content + b'{"op_code":8,"worker_id":"x","trial_id":2,"ste')
    report_epochs(study, study.history.running()[0], max_epochs=1)
    update(study, path)
    assert path.read_bytes().startswith(content + b"{")
    assert len(trials_in(path)[-1].intermediate_values) == 3


def test_a_line_that_another_process_is_writing_is_not_removed(
    study: Study, tmp_path: Path
) -> None:
    train_each_state(study)
    path = tmp_path / "a.log"
    update(study, path)
    content = path.read_bytes()
    line = b'{"op_code":2,"worker_id":"x","study_id":0,"user_attr":{"note":1}}\n'
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    path.write_bytes(content + line[:20])
    updating = threading.Thread(target=update, args=(study, path))
    updating.start()
    updating.join(1)
    assert updating.is_alive()
    assert path.read_bytes() == content + line[:20]
    path.write_bytes(content + line)
    lock.release()
    updating.join(60)
    assert path.read_bytes() == content + line


def test_the_lock_of_the_file_is_a_link_to_its_absolute_path(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the link is broken, the lock of a killed process is never released."""
    targets, symlink = [], os.symlink

    def recording_symlink(target: str, link: str) -> None:
        targets.append(target)
        symlink(target, link)

    (tmp_path / "logs").mkdir()
    monkeypatch.chdir(tmp_path)
    export_study(exported(study), Path("logs/a.log"))
    train_each_state(study)
    monkeypatch.setattr(os, "symlink", recording_symlink)
    update(study, Path("logs/a.log"))
    assert set(targets) == {str(tmp_path / "logs" / "a.log")}


def test_a_signal_before_the_plan_is_stored_gives_no_number_of_trials(tmp_path: Path) -> None:
    folder = StudyFolder(str(tmp_path / "first"))
    with launcher_lock(folder):
        export = follow_export(folder, tmp_path / "a.log", interrupt)
    assert export == FollowedExport(None, signal.SIGINT)
    assert not (tmp_path / "a.log").exists()


def test_a_second_signal_ends_the_command_at_once(tmp_path: Path) -> None:
    def interrupt_twice(_line: str) -> None:
        interrupt(_line)
        interrupt(_line)

    folder = StudyFolder(str(tmp_path / "first"))
    with launcher_lock(folder), pytest.raises(KeyboardInterrupt):
        follow_export(folder, tmp_path / "a.log", interrupt_twice)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def interrupt(_line: str) -> None:
    """Send SIGINT to this process, as Ctrl-C does."""
    os.kill(os.getpid(), signal.SIGINT)


def test_a_trial_of_another_program_does_not_disturb(study: Study, tmp_path: Path) -> None:
    """Such as one that a user of the dashboard adds."""
    path = tmp_path / "a.log"
    update(study, path)
    storage = JournalStorage(JournalFileBackend(str(path)))
    optuna.load_study(study_name="first", storage=storage).enqueue_trial({"width": 4})
    train_each_state(study)
    update(study, path)
    assert [trial.state.name for trial in trials_in(path)] == [
        "WAITING",
        "COMPLETE",
        "FAIL",
        "RUNNING",
    ]


@pytest.mark.parametrize(
    "content",
    [b"", b"mine", b"mine\n", b"{}\n", b"[1]\n", b"SQLite format 3\x00\xff\n", b'{"op_code":99}\n'],
)
def test_a_file_of_another_program_is_rejected_and_not_changed(
    study: Study, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(content)
    with pytest.raises(
        StudyError, match=r"a\.log: no Optuna journal of this study 'first'; choose"
    ):
        update(study, path)
    assert path.read_bytes() == content


def test_a_file_of_another_study_of_the_same_name_is_rejected(
    study: Study, shards: Path, tmp_path: Path
) -> None:
    update(study, tmp_path / "a.log")
    other = new_study(shards, tmp_path / "others" / "first")
    with pytest.raises(StudyError, match="no Optuna journal of this study 'first'"):
        update(other, tmp_path / "a.log")


def test_two_writers_and_a_removed_file_are_rejected(study: Study, tmp_path: Path) -> None:
    path, other = tmp_path / "a.log", tmp_path / "other.txt"
    other.write_bytes(b"notes\n")
    with optuna_journal(exported(study), path) as journal:
        with pytest.raises(StudyError, match="another command keeps it up to date"):
            update(study, path)
        path.rename(tmp_path / "b.log")
        for is_replaced in (False, True):
            if is_replaced:
                path.symlink_to(other)
            with pytest.raises(StudyError, match="the file was removed or replaced"):
                journal.update()
    assert other.read_bytes() == b"notes\n"


def test_a_study_that_is_deleted_from_the_file_is_an_error(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with optuna_journal(exported(study), path) as journal:
        storage = JournalStorage(JournalFileBackend(str(path)))
        optuna.delete_study(study_name="first", storage=storage)
        train_each_state(study)
        with pytest.raises(StudyError, match=r"another program has changed the study .*; remove"):
            journal.update()


# The command


@contextmanager
def dashboard(path: Path) -> Iterator[Callable[[str], Any]]:
    """A function that reads the HTTP API of `optuna-dashboard`, which is started on `path`."""
    with socket.socket() as free_socket:
        free_socket.bind(("127.0.0.1", 0))
        port = free_socket.getsockname()[1]
    program = str(Path(sys.executable).with_name("optuna-dashboard"))
    with subprocess.Popen(
        [program, str(path), "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            await_answer(f"http://127.0.0.1:{port}/api/studies")

            def fetch(address: str) -> Any:
                url = f"http://127.0.0.1:{port}/api/{address}"
                with urllib.request.urlopen(url, timeout=30) as response:
                    return json.loads(response.read())

            yield fetch
        finally:
            server.terminate()


def await_states(fetch: Callable[[str], Any], states: list[str]) -> list[dict[str, Any]]:
    """Wait until the dashboard shows trials in these states; return them."""
    until = time.monotonic() + TIMEOUT_S
    shown: list[dict[str, Any]] = []
    while time.monotonic() < until:
        [listed] = fetch("studies")["study_summaries"]
        shown = fetch(f"studies/{listed['study_id']}")["trials"]
        if [trial["state"] for trial in shown] == states:
            return shown
        time.sleep(0.2)
    pytest.fail(f"{[trial['state'] for trial in shown]}, not {states}")


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.slow
def test_the_dashboard_shows_a_study_while_it_runs(
    study: Study, run: Commands, tmp_path: Path
) -> None:
    words = ("studies", "export", "first", "first.log", "--format", "optuna", "--follow")
    path = tmp_path / "first.log"
    with launcher_lock(study.folder):
        follower = run.start(*words)
        try:
            assert first_line(follower) == "Following first. See: optuna-dashboard first.log\n"
            with dashboard(path) as fetch:
                trial = next_searched(study)
                study.report(fold_report(trial.id, 1, 0.7))
                [shown] = await_states(fetch, ["Running"])
                assert [step["value"] for step in shown["intermediate_values"]] == [0.7]
                report_epochs(study, trial)
                next_searched(study)
                first, _running = await_states(fetch, ["Complete", "Running"])
                assert first["values"] == [pytest.approx(trial.objective)]
                assert len(first["intermediate_values"]) == 8
                follower.send_signal(signal.SIGINT)
                assert "first.log has 2 trials" in follower.communicate(timeout=60)[0]
                assert follower.returncode == 130
                study.fail(study.history.running()[0].id, "nan-loss")
                follower = run.start(*words)
                await_states(fetch, ["Complete", "Fail"])
                study.fail(next_searched(study).id, "nan-loss")
                await_states(fetch, ["Complete", "Fail", "Fail"])
        except BaseException:
            follower.kill()
            raise
    # The study's launcher has ended.
    out, _err = follower.communicate(timeout=60)
    assert follower.returncode == 0
    assert out.splitlines()[1:][:1] == ["3 trials in first.log"]
    assert "first: interrupted" in out
    assert len(trials_in(path)) == 3
    assert sorted(place.name for place in tmp_path.iterdir()) == ["first.log", "studies"]


def test_the_command_rejects_what_it_cannot_follow(
    study: Study,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["studies", "export", "first", "first.log", "--follow"]
    assert study.plan.name == "first"
    assert run_command(words) == 2
    assert "--follow: an archive is written once; add --format optuna" in capsys.readouterr().err
    assert run_command([*words[:2], "second", "a.log", "--follow", "--format", "optuna"]) == 2
    assert "no study 'second'" in capsys.readouterr().err
    assert run_command([*words, "--format", "optuna", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_trials"] == 0
