"""What the cluster files' setup leaves on a node, run as it stands in a home of its own."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import yaml

from .ground import TOP

VERSIONS = (
    "import importlib.metadata as m;"
    "print(*(f'{one.name}=={one.version}' for one in m.distributions()), sep='\\n')"
)


def plain(pin: str) -> str:
    """A pin such as `ray==2.60.0` with its name as the index has it."""
    name, _, version = pin.partition("==")
    return f"{re.sub(r'[-_.]+', '-', name.lower())}=={version}"


def test_the_setup_installs_the_locked_versions_and_guards_its_secrets(tmp_path: Path) -> None:
    tree = yaml.safe_load((TOP / "clusters" / "onprem.yaml").read_text())
    for there, here in tree["file_mounts"].items():
        place = tmp_path / there.removeprefix("~/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if here.startswith("~"):
            place.write_text("planted")
        elif (TOP / here).is_dir():
            shutil.copytree(TOP / here, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(TOP / here, place)
    cache = os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv"))
    environment = {**os.environ, "HOME": str(tmp_path), "UV_CACHE_DIR": cache}

    def bash(command: str) -> str:
        words = ["bash", "-euo", "pipefail", "-c", command]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    for command in tree["setup_commands"]:
        bash(command)
    printed = bash(f'~/venv/bin/python -c "{VERSIONS}"').splitlines()
    installed = {plain(line) for line in printed if not line.startswith("raysearch==")}
    lock = (TOP / "requirements.lock").read_text().splitlines()
    pins = {plain(line.split()[0]) for line in lock if "==" in line.split("--hash")[0]}
    assert len(printed) == len(installed) + 1
    assert {"ray", "torch", "mlflow"} <= {pin.split("==")[0] for pin in installed}
    assert installed <= pins
    assert "raysearch" in bash(". ~/raysearch.env && command -v raysearch && raysearch --help")
    for name in (".ray/auth_token", ".mlflow/credentials", "raysearch.env"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
