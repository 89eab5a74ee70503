"""Lost processes of a launch are named, and the study resumes, with real Ray and MLflow."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from ray.exceptions import LocalRayletDiedError

from conftest import Commands
from raysearch.data.child_processes import descendants, is_running
from raysearch.search.engine.interrupts import (
    InterruptedStudyError,
    RayLostError,
    signals_interrupt,
)
from raysearch.search.engine.ray_session import ray_session
from raysearch.search.study.stored_study import load_study
from support.launched_processes import only_process, run_statuses, wait_until_ended
from support.launched_studies import (
    check_mlflow_has_the_history,
    check_repeated_decisions,
    num_reports,
    prepare_launch,
    study,
    wait_for_reports,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
# What is killed -> the start of the message.
LOST = {
    "raylet/raylet": "the raylet of Ray on this machine ended; state saved.",
    "gcs_server": "the GCS of Ray on this machine ended; ",
    "the command": "the command was killed by SIGKILL, as the kernel does if memory is exhausted; ",
}


def children(name: str) -> list[int]:
    return [pid for pid in descendants(os.getpid()) if is_running(pid, name)]


def lose_ray(signum: int | None) -> None:
    """Kill the raylet; then an error of Ray comes before the watchdog looks."""
    earlier = children("raylet")  # those of the cluster which tests share
    with signals_interrupt() as receiver, ray_session():
        receiver.signum = signum
        for pid in set(children("raylet")).difference(earlier):
            os.kill(pid, signal.SIGKILL)
        raise LocalRayletDiedError


def test_an_error_of_ray_that_comes_first_is_a_loss_of_ray_or_the_signal() -> None:
    earlier = children("gcs_server")  # that of the cluster which tests share
    with pytest.raises(RayLostError, match="the raylet of Ray on this machine ended"):
        lose_ray(None)
    start = time.monotonic()
    with pytest.raises(InterruptedStudyError) as caught:
        lose_ray(signal.SIGTERM)
    assert caught.value.signum == signal.SIGTERM
    assert children("gcs_server") == earlier
    assert time.monotonic() - start < 200


def test_lost_processes_are_named_and_the_study_resumes(run: Commands, shards: Path) -> None:
    prepare_launch(run.folder, epochs=20, trials="4", stopping="{rule: none}")
    words = ["launch", "small.yaml", "--data", str(shards)]
    for number, (lost, message) in enumerate(LOST.items()):
        earlier = num_reports(run)
        process = run.start(*words, *(["--resume"] if number else []))
        wait_for_reports(run, earlier + 4)  # its search runs
        word = "bin/raysearch" if lost == "the command" else lost
        pid = only_process(process.pid, word, without=process.pid)
        start = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        out, err = process.communicate(timeout=200)
        assert time.monotonic() - start < 200
        assert process.returncode == 2, out + err
        assert err.startswith(f"raysearch: {message}"), out + err
        resume = f"Resume with: raysearch launch small.yaml --data {shards} --name small --resume\n"
        assert err.endswith(resume)
        assert err.count("\n") == 1
        assert "Traceback" not in out
        assert "raylet)" not in out  # Ray's log of the raylet
        if lost != "the command":
            assert "RUNNING" not in run_statuses(run)
        wait_until_ended(process.pid)
    run(*words, "--resume")
    history = load_study(study(run)).history
    assert len(history.searched()) == 4
    for trial in history.searched():
        assert trial.status == "finished"
        assert [report.epoch for report in trial.reports] == list(range(1, 41))
    check_repeated_decisions(run)
    check_mlflow_has_the_history(run, history)
