"""Launches on a loaded machine, and the signals that end a launch, with real Ray and MLflow."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from conftest import Commands
from support.launched_processes import only_process, processes, run_statuses, wait_until_ended
from support.launched_studies import prepare_launch, wait_for_reports

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

# Delays the agents of Ray as a loaded machine does. Without an end, the delay is negative.
SLOW_AGENTS = """
import os, sys, time
if "/agent.py" in " ".join(sys.orig_argv) or "/agent/main.py" in " ".join(sys.orig_argv):
    delay_s = float(os.environ["AGENT_DELAY_S"])
    if delay_s < 0:
        os._exit(1)
    time.sleep(delay_s)
"""
# A raylet waits 15 seconds for its agents.
DELAY_S = 17


def handle_hangup() -> None:
    """Undo what the caller of the tests may have set, such as `nohup`."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@contextmanager
def launched(
    run: Commands, shards: Path, *words: str, before: Callable[[], object] = handle_hangup
) -> Iterator[subprocess.Popen[str]]:
    """A launch of `small.yaml`, of which nothing is left afterwards."""
    command = [str(Path(sys.executable).with_name("raysearch")), "launch", "small.yaml"]
    process = subprocess.Popen(
        [*command, "--data", str(shards), *words],
        cwd=run.folder,
        env=run.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=before,  # noqa: PLW1509 nothing is locked here by other threads
    )
    try:
        yield process
    finally:
        for pid in processes(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


# Parts of Ray that a local launch does not start.
UNUSED_PARTS = ("log_monitor.py", "autoscaler/_private/monitor.py", "dashboard/dashboard.py")


def slow_agents(run: Commands, delay_s: float) -> None:
    folder = run.folder / "slow"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SLOW_AGENTS)
    path = os.pathsep.join([str(folder), *filter(None, [run.environment.get("PYTHONPATH")])])
    run.environment |= {"PYTHONPATH": path, "AGENT_DELAY_S": str(delay_s)}


def niceness(pid: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, pid)


def test_ray_starts_again_if_its_agents_are_slow_and_trials_are_as_nice_as_the_launcher(
    run: Commands, shards: Path
) -> None:
    prepare_launch(run.folder, epochs=60, stopping="{rule: none}")
    slow_agents(run, DELAY_S)
    with launched(run, shards, before=lambda: os.nice(1)) as process:
        wait_for_reports(run, 1, timeout_s=500)
        only_process(process.pid, "raylet/raylet")  # what the first attempt started has ended
        workers = list(processes(process.pid, "ray::ImplicitFunc"))
        assert workers
        assert {niceness(pid) for pid in workers} == {niceness(process.pid)}
        for part in UNUSED_PARTS:
            assert not list(processes(process.pid, part)), part
        process.terminate()
        out, err = process.communicate(timeout=60)
        assert process.returncode == 143, out + err
        assert "Traceback" not in out + err
        assert "its raylet ended" in (run.folder / "studies/small/logs/launch.log").read_text()
        assert "RUNNING" not in run_statuses(run)
        wait_until_ended(process.pid)


def test_ray_that_cannot_start_is_reported_in_one_line(run: Commands, shards: Path) -> None:
    prepare_launch(run.folder)
    slow_agents(run, -1)
    with launched(run, shards) as process:
        _out, err = process.communicate(timeout=300)
        assert process.returncode == 2
        assert err.startswith("raysearch: Ray could not be started on this machine, in two attempt")
        assert err.count("\n") == 1
        wait_until_ended(process.pid)


@pytest.mark.parametrize("send", [os.kill, os.killpg])
def test_sigterm_while_ray_starts_ends_with_143(
    run: Commands, shards: Path, send: Callable[[int, int], None]
) -> None:
    prepare_launch(run.folder)
    word = "gcs_server" if send is os.kill else "raylet/raylet"
    with launched(run, shards) as process:
        until = time.monotonic() + 100
        while not list(processes(process.pid, word)):
            assert time.monotonic() < until
            time.sleep(0.05)
        send(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 143, out + err
        assert "Traceback" not in out + err
        assert "Interrupted; nothing is stored yet; run the same command again" in out
        wait_until_ended(process.pid)


def test_sighup_saves_the_study_unless_it_is_ignored(run: Commands, shards: Path) -> None:
    prepare_launch(run.folder, epochs=60, stopping="{rule: none}")
    with launched(run, shards) as process:
        wait_for_reports(run, 1)
        process.send_signal(signal.SIGHUP)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 129, out + err
        assert "Interrupted; state saved. Resume with: raysearch launch small.yaml" in out
        assert "Traceback" not in out + err
        assert "RUNNING" not in run_statuses(run)
        wait_until_ended(process.pid)

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with launched(run, shards, "--resume", before=ignore) as process:
        while "searching" not in (line := process.stdout.readline()) and line:  # type: ignore[union-attr]
            pass
        os.killpg(process.pid, signal.SIGHUP)
        time.sleep(3)
        assert process.poll() is None
        assert "RUNNING" in run_statuses(run)
        os.killpg(process.pid, signal.SIGTERM)  # also to Ray's processes
        out, err = process.communicate(timeout=60)
        assert process.returncode == 143, out + err
        assert "RUNNING" not in run_statuses(run)


def test_a_closed_terminal_saves_the_study(run: Commands, shards: Path) -> None:
    prepare_launch(run.folder, epochs=60, stopping="{rule: none}")
    raysearch = str(Path(sys.executable).with_name("raysearch"))
    child, terminal = pty.fork()
    if child == 0:
        handle_hangup()
        os.chdir(run.folder)
        words = [raysearch, "launch", "small.yaml", "--data", str(shards)]
        os.execve(raysearch, words, run.environment)
    reader = subprocess.Popen(["cat"], stdin=terminal, stdout=subprocess.DEVNULL)
    try:
        wait_for_reports(run, 1)
    finally:
        reader.kill()
        reader.wait()
        os.close(terminal)
    _pid, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    assert "RUNNING" not in run_statuses(run)
    wait_until_ended(child)
