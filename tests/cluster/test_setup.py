"""Runs the setup commands of a cluster file in a temporary home, and checks what they install."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import yaml

from .testbed import TOP

VERSIONS = (
    "import importlib.metadata as m;"
    "print(*(f'{package.name}=={package.version}' for package in m.distributions()), sep='\\n')"
)


def normalized(pin: str) -> str:
    """A pin such as `ray==2.60.0` with its normalized name."""
    name, _, version = pin.partition("==")
    return f"{re.sub(r'[-_.]+', '-', name.lower())}=={version}"


def test_the_setup_installs_the_locked_versions_and_protects_its_secrets(tmp_path: Path) -> None:
    config = yaml.safe_load((TOP / "clusters" / "onprem.yaml").read_text())
    for remote_path, path in config["file_mounts"].items():
        target = tmp_path / remote_path.removeprefix("~/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.startswith("~"):
            target.write_text("planted")
        elif (TOP / path).is_dir():
            shutil.copytree(TOP / path, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(TOP / path, target)
    cache = os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv"))
    environment = {**os.environ, "HOME": str(tmp_path), "UV_CACHE_DIR": cache}

    def bash(command: str) -> str:
        arguments = ["bash", "-euo", "pipefail", "-c", command]
        finished = subprocess.run(
            arguments, env=environment, capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, f"{command}\n{finished.stdout}{finished.stderr}"
        return finished.stdout

    for command in config["setup_commands"]:
        bash(command)
    printed = bash(f'~/venv/bin/python -c "{VERSIONS}"').splitlines()
    installed = {normalized(line) for line in printed if not line.startswith("raysearch==")}
    lock = (TOP / "requirements.lock").read_text().splitlines()
    pins = {normalized(line.split()[0]) for line in lock if "==" in line.split("--hash")[0]}
    assert len(printed) == len(installed) + 1
    assert {"ray", "torch", "mlflow"} <= {pin.split("==")[0] for pin in installed}
    assert installed <= pins
    assert "raysearch" in bash(". ~/raysearch.env && command -v raysearch && raysearch --help")
    for name in (".ray/auth_token", ".mlflow/credentials", "raysearch.env"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
