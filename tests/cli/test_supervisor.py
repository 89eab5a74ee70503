"""Commands in a child process: how they end is reported, whatever ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raysearch.cli.supervisor import SUPERVISOR
from raysearch.data.child_processes import descendants
from raysearch.search.journal.study_folder import StudyFolder
from support.result_studies import TREE, new_study

COMMAND = """
import os, signal, subprocess, sys, time
from raysearch.cli.supervisor import SUPERVISOR
from raysearch.data.child_processes import launcher_pid
from raysearch.search.engine.interrupts import InterruptedStudyError, signals_interrupt
SUPERVISOR.enabled = True
code = SUPERVISOR.supervise()
if code is not None:
    os._exit(code)
{}
"""
# Saves for a second after the first signal; what interrupts that prints a traceback.
SAVING = """
with signals_interrupt():
    try:
        print("ready", launcher_pid(), flush=True)
        time.sleep(60)
    except InterruptedStudyError as interrupt:
        time.sleep(1)
        print("saved", flush=True)
        SUPERVISOR.report_end()
        os._exit(128 + interrupt.signum)
"""
DOCTOR = """
import os, sys, time
from raysearch import cli
from raysearch.cli import doctor
from raysearch.search.engine.interrupts import signals_interrupt
def check(*_arguments):
{}
doctor._check_here = check
sys.argv = ["raysearch", "doctor"]
cli.main()
"""
# Reads the study again where the command would start Ray.
SELECT = """
import os, sys
from raysearch import cli
from raysearch.cli import select
from raysearch.data.child_processes import launcher_pid
from raysearch.search.study.stored_study import read_plan
def read_again(folder, *_arguments):
    place = "this" if launcher_pid() == os.getpid() else "another"
    print(read_plan(folder).name, "below", place, "process")
    return 0
select._run = read_again
sys.argv = ["raysearch", "select", "first", "--studies", "{}"]
cli.main()
"""


def start(body: str, before: Callable[[], object] | None = None) -> subprocess.Popen[str]:
    """A command below a parent process, the leader of a session."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(textwrap.dedent(body))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=before,  # noqa: PLW1509 nothing is locked here by other threads
    )


def wait_for(condition: Callable[[], object], timeout_s: float = 10) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("code", [0, 1, 2, 143])
def test_the_exit_code_of_a_command_that_reports_its_end_is_kept(code: int) -> None:
    process = start(f"SUPERVISOR.report_end(); os._exit({code})")
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == code


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("os._exit(1)", "was ended by native code with exit code 1, as Ray does if the head"),
        ("os._exit(70)", "Ray's own processes ended"),
        ("os.kill(os.getpid(), 9)", "was killed by SIGKILL, as the kernel does if memory is"),
        ("os.abort()", "crashed with SIGABRT"),
    ],
)
def test_a_command_that_could_not_report_its_end_is_reported_in_one_line(
    body: str, reason: str
) -> None:
    process = start(f"SUPERVISOR.report_advice('resume with x --resume')\n{body}")
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (2, "")
    assert err.startswith("raysearch: ")
    assert reason in err
    assert err.endswith("; resume with x --resume\n")
    assert err.count("\n") == 1


def test_the_advice_is_that_of_the_command_and_the_last_one_that_it_reported() -> None:
    for body, advice in (
        ("", "run the same command again"),
        ("SUPERVISOR.report_advice('first'); SUPERVISOR.report_advice('second')", "second"),
        # The pipe would be full.
        ("SUPERVISOR.report_advice('x' * 100_000)", "run the same command again"),
    ):
        process = start(f"{body}\nos._exit(3)")
        _out, err = process.communicate(timeout=20)
        assert err.endswith(f"is lost; {advice}\n"), err


def test_an_advice_of_any_characters_is_one_printable_line_without_passwords() -> None:
    body = r"""
        SUPERVISOR.report_advice("add a=\udcff\x1b[2J 'b=1\n2' s3://key:secret@bucket")
        SUPERVISOR.report_loss("the raylet\nended")
        os._exit(70)
    """
    process = start(body)
    _out, err = process.communicate(timeout=20)
    assert process.returncode == 2
    assert err == (
        "raysearch: the raylet\\nended; add a=\\udcff\\x1b[2J 'b=1\\n2' s3://***@bucket\n"
    )


def test_a_crash_after_the_reported_end_has_the_exit_code_of_its_signal() -> None:
    process = start("SUPERVISOR.report_end(); os.kill(os.getpid(), 6)")
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 128 + signal.SIGABRT


def test_an_interrupted_command_that_cannot_leave_ray_keeps_its_exit_code() -> None:
    process = start("os._exit(143)")
    _out, err = process.communicate(timeout=20)
    assert process.returncode == 143
    assert err == (
        "raysearch: interrupted, and Ray did not shut down; run the same command again\n"
    )


def test_what_a_command_leaves_behind_is_ended() -> None:
    body = """
        orphan = subprocess.Popen([sys.executable, "-c", '''
        import subprocess, time
        print(subprocess.Popen(["sleep", "60"], start_new_session=True).pid, flush=True)
        '''.replace("        ", "")], stdout=subprocess.PIPE)
        print(orphan.stdout.readline().decode(), flush=True)
        os.kill(os.getpid(), 9)
    """
    process = start(body)
    out, _err = process.communicate(timeout=20)
    assert int(out) > 0
    assert not Path(f"/proc/{int(out)}").exists()


def test_what_a_shell_has_started_before_it_became_the_command_goes_on() -> None:
    body = """
        orphan = subprocess.Popen(["sleep", "60"])
        print(orphan.pid, flush=True)
        os._exit(1)
    """
    words = [sys.executable, "-c", COMMAND.format(textwrap.dedent(body))]
    script = 'sh -c "sleep 60 & echo \\$!; wait" & exec "$@"'
    started_s = time.monotonic()
    words = ["sh", "-c", script, "sh", *words]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.wait(timeout=20) == 2
        assert time.monotonic() - started_s < 15
        assert process.stdout is not None
        earlier, orphan = (int(process.stdout.readline()) for _line in range(2))
    try:
        assert Path(f"/proc/{earlier}").exists()
        assert not Path(f"/proc/{orphan}").exists()
    finally:
        os.kill(earlier, signal.SIGKILL)


def doctor_that(body: str) -> subprocess.CompletedProcess[str]:
    """`raysearch doctor` whose check runs `body`."""
    script = DOCTOR.format(textwrap.indent(body, "    "))
    words = [sys.executable, "-c", script]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


def test_a_traceback_is_not_followed_by_a_message_of_the_parent_process() -> None:
    run = doctor_that("raise RuntimeError('unexpected')")
    assert run.returncode == 1
    assert run.stderr.startswith("Traceback")
    assert run.stderr.endswith("RuntimeError: unexpected\n")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_any_command_ends_with_the_exit_code_of_the_signal(signum: signal.Signals) -> None:
    run = doctor_that(f"with signals_interrupt(): os.kill(os.getpid(), {signum}); time.sleep(9)")
    assert (run.returncode, run.stderr) == (128 + signum, "")


@pytest.mark.slow
def test_select_uses_an_object_store_only_in_the_child_process(
    bucket: str, shards: Path, tmp_path: Path
) -> None:
    study = new_study(shards, tmp_path / "first", TREE)
    StudyFolder(f"{bucket}/forked/first").write(StudyFolder.PLAN, study.folder.read("plan.json"))
    script = SELECT.format(f"{bucket}/forked")
    words = [sys.executable, "-c", script]
    run = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (0, "first below another process\n", "")


def test_a_command_ends_with_its_parent_process() -> None:
    process = start("print(os.getpid(), flush=True); time.sleep(60)")
    assert process.stdout is not None
    child = int(process.stdout.readline())
    assert descendants(process.pid) == [child]
    process.kill()
    process.communicate(timeout=20)
    wait_for(lambda: not Path(f"/proc/{child}").exists())


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("send", [os.kill, os.killpg])
def test_a_signal_to_the_parent_or_to_both_interrupts_once(
    signum: signal.Signals, send: Callable[[int, int], None]
) -> None:
    process = start(SAVING)
    assert process.stdout is not None
    assert process.stdout.readline() == f"ready {process.pid}\n"
    send(process.pid, signum)
    time.sleep(0.3)
    send(process.pid, signum)  # as by a user who does not want to wait
    assert process.communicate(timeout=20) == ("saved\n", "")
    assert process.returncode == 128 + signum


def test_an_ignored_sighup_stays_ignored() -> None:
    process = start(SAVING, lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.terminate()
    assert process.communicate(timeout=20) == ("saved\n", "")
    assert process.returncode == 143


def test_a_signal_before_the_command_handles_signals_needs_no_message() -> None:
    process = start("print('started', flush=True); time.sleep(60)")
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 143


def test_within_another_program_no_child_process_is_started() -> None:
    assert SUPERVISOR.supervise() is None
