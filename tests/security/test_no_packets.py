"""No packet leaves the machine on a local launch: no telemetry, no name lookup, no cloud probe."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from raysearch.config.telemetry import NO_TELEMETRY
from support.packet_capture import CapturedRun, missing_namespaces, run_captured

RAYSEARCH = str(Path(sys.executable).with_name("raysearch"))
SPACE = """
data: synthetic:6:60:0
objective: {metric: auroc, mode: max}
epochs: 1
trials: 2
seed: 0
repeats: 0
resources: {cpus: 1, gpus: 0}
space:
  folds: 2
  architecture: cnn
  convolutions: 1
  width: {choice: [4, 8]}
"""
# A lookup of a name, and a connection to the address of the clouds' metadata services.
PROBE = """
import contextlib, socket
with contextlib.suppress(OSError):
    socket.gethostbyname("example.com")
connection = socket.socket()
connection.settimeout(0.2)
with contextlib.suppress(OSError):
    connection.connect(("169.254.169.254", 80))
"""
# Starts the MLflow UI, waits for its answer, and ends it.
UI = f"""
import subprocess, time, urllib.error, urllib.request
ui = subprocess.Popen([{RAYSEARCH!r}, "ui", "--port", "5099"])
for _ in range(300):
    try:
        urllib.request.urlopen("http://127.0.0.1:5099/", timeout=5)
        break
    except urllib.error.HTTPError:
        break
    except OSError:
        assert ui.poll() is None
        time.sleep(0.5)
else:
    raise SystemExit("the UI does not answer")
time.sleep(3)
ui.terminate()
ui.wait(60)
"""
# A user without settings has none of these; MLflow sends nothing if one of the first is set.
SETTINGS = (
    *("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST"),
    *("MLFLOW_TRACKING_URI", "RAY_ADDRESS"),
)


def captured(command: list[str], folder: Path, timeout_s: float) -> CapturedRun:
    """Run `command` as a user without settings; skip the test without namespaces."""
    names = {*SETTINGS, *NO_TELEMETRY}
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment = {name: value for name, value in environment.items() if "AWS" not in name}
    home = folder / "home"
    home.mkdir()
    environment |= {"HOME": str(home), "RAYSEARCH_CACHE": str(home / "cache")}
    if reason := missing_namespaces():
        pytest.skip(f"no network namespace with a TUN device here: {reason}")
    return run_captured(command, folder, environment, timeout_s)


@pytest.mark.slow
def test_the_capture_sees_a_name_lookup_and_a_probe_of_the_metadata_service(tmp_path: Path) -> None:
    run = captured([sys.executable, "-c", PROBE], tmp_path, 60)
    assert run.code == 0
    assert any(packet.startswith("UDP 192.0.2.53 53 ") for packet in run.packets)
    assert any(packet.startswith("TCP 169.254.169.254 80 ") for packet in run.packets)


@pytest.mark.slow
def test_no_packet_leaves_the_machine_on_a_local_launch_and_in_its_ui(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(SPACE)
    (tmp_path / "ui.py").write_text(UI)
    script = f"{RAYSEARCH} launch tiny.yaml --name tiny && {sys.executable} ui.py"
    run = captured(["sh", "-ec", script], tmp_path, 850)
    assert run.code == 0, run.output
    assert "models:/tiny@champion" in run.output
    assert run.packets == []
