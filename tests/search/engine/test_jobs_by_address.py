"""Studies on a cluster of somebody else, by the address of its dashboard.

A Ray head is started by hand, with a token, in a Python environment that has no raysearch.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.stored_study import load_study
from support.free_ports import free_port

SPACE = """
epochs: 1
trials: 2
repeats: 0
resources: {cpus: 1}
space: {folds: 2, width: 4, convolutions: 1, learning_rate: {loguniform: [1e-3, 1e-2]}}
"""
TOKEN = "planted0ray0token0" + "0" * 46
START_S = 90


@dataclass
class Head:
    """A head, and what a user on another machine has."""

    address: str
    folder: Path
    site_packages: Path

    def run(self, *words: str, code: int = 0, token: str = TOKEN) -> str:
        """Run `raysearch` on the machine of the user; return all that it prints."""
        process = subprocess.run(
            [sys.executable, "-m", "raysearch", *words],
            cwd=self.folder / "user",
            env={
                "HOME": str(self.folder / "user"),
                "PATH": os.environ["PATH"],
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": token,
                "RAYSEARCH_STUDIES": str(self.folder / "studies"),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        assert process.returncode == code, process.stdout
        return process.stdout


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A running head whose machine has the libraries, and no raysearch."""
    # The paths of Ray's sockets must be short.
    with tempfile.TemporaryDirectory(prefix="rs-", dir="/tmp") as name:
        folder = Path(name)
        venv.create(folder / "venv", with_pip=False)
        packages = next((folder / "venv" / "lib").glob("python*/site-packages"))
        # Files `.pth` in that folder, such as that of an editable installation, have no effect.
        libraries = Path(pytest.__file__).parents[1]
        (packages / "libraries.pth").write_text(f"{libraries}\n")
        for subfolder in ("home", "user", "ray"):
            (folder / subfolder).mkdir()
        (folder / "user" / "small.yaml").write_text(SPACE)
        port, dashboard = free_port(), free_port()
        environment = {
            "HOME": str(folder / "home"),
            "PATH": f"{folder}/venv/bin:/usr/bin:/bin",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "OMP_NUM_THREADS": "1",
        }
        command = [str(folder / "venv/bin/python"), "-m", "ray.scripts.scripts", "start", "--head"]
        command += [f"--port={port}", f"--dashboard-port={dashboard}", "--num-cpus=1", "--block"]
        command += ["--dashboard-host=127.0.0.1", f"--temp-dir={folder}/ray"]
        command += ["--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats"]
        command += [f"--dashboard-agent-listen-port={free_port()}"]
        command += [f"--ray-client-server-port={free_port()}", "--object-store-memory=100000000"]
        with (folder / "ray.log").open("wb") as log:
            ray = subprocess.Popen(
                command,
                env=environment,
                cwd=folder / "home",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            _await_dashboard(f"http://127.0.0.1:{dashboard}/api/version", folder / "ray.log")
            yield Head(f"http://127.0.0.1:{dashboard}", folder, packages)
        finally:
            ray.send_signal(signal.SIGTERM)
            try:
                ray.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(ray.pid, signal.SIGKILL)
                ray.wait()


def _await_dashboard(url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError:
            return  # it requires the token
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
        else:
            return


@pytest.mark.slow
def test_a_study_brings_its_package_and_all_commands_find_it(head: Head) -> None:
    missing = subprocess.run(
        [str(head.folder / "venv/bin/python"), "-c", "import torch, raysearch"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin"},
    )
    assert "No module named 'raysearch'" in missing.stderr
    options = ["--on", head.address, "--name", "first"]
    synthetic = "synthetic:8:80:0"
    text = head.run("launch", "small.yaml", "--data", synthetic, *options)
    assert "Champion t000" in text
    study = load_study(StudyFolder(str(head.folder / "studies" / "first")))
    assert study.history.champion
    assert len(study.history.searched()) == 2
    assert "already ended: succeeded" in head.run("stop", "first", "--on", head.address)
    assert "t0001" in head.run("results", "first", "--on", head.address)
    # The folder of studies is that of the launch.
    trial = study.history.champion
    stopped = head.run("stop", "first", "--trial", trial, "--on", head.address, code=2)
    assert f"raysearch: --trial {trial}: it has ended already (finished)" in stopped
    assert " INFO " not in stopped


@pytest.mark.slow
def test_the_packages_and_the_token_of_the_cluster_are_checked(head: Head) -> None:
    older = head.site_packages / "optuna-1.0.dist-info"
    older.mkdir()
    (older / "METADATA").write_text("Metadata-Version: 2.1\nName: optuna\nVersion: 1.0\n")
    words = ["launch", "small.yaml", "--data", "synthetic:8:80:0", "--on", head.address]
    try:
        text = head.run(*words, "--name", "second", code=2)
        doctor = head.run("doctor", "--on", head.address, code=2)
    finally:
        shutil.rmtree(older)
    reason = "the head of the cluster lacks what raysearch requires: optuna 1.0 (required: >=5.0)"
    assert f"raysearch: {reason}; start" in text
    assert reason in doctor
    assert not (head.folder / "studies" / "second").exists()
    wrong = head.run(*words, "--name", "third", token="w" * 64, code=2)
    assert "authentication token is invalid" in wrong
