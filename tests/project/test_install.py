"""The documented installation verifies every package by hash, and pins what installs and builds."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

TOP = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-build.lock")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
EXACT = re.compile(r"==[^,*]+")


def requirements(lock: str) -> dict[str, list[str]]:
    """The requirements of a lock file, each with its options."""
    text = (TOP / lock).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {line.split(" --hash")[0].strip(): line.split()[1:] for line in lines}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_one_version_and_hashes_and_no_address(lock: str) -> None:
    entries = requirements(lock)
    assert entries
    for text, options in entries.items():
        requirement = Requirement(text)
        assert requirement.url is None
        assert EXACT.fullmatch(str(requirement.specifier)), text
        assert any(HASH.fullmatch(option) for option in options), text
    assert "://" not in (TOP / lock).read_text()


def test_the_locks_contain_what_the_project_requires() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    required = {
        "requirements.lock": project["project"]["dependencies"],
        "requirements-dev.lock": project["dependency-groups"]["dev"],
        "requirements-build.lock": project["dependency-groups"]["build"],
    }
    for lock, texts in required.items():
        locked = {Requirement(text).name: Requirement(text) for text in requirements(lock)}
        for text in texts:
            requirement = Requirement(text)
            (specifier,) = locked[requirement.name].specifier
            assert requirement.specifier.contains(specifier.version), text


def test_uv_and_hatchling_are_pinned() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    (build_requirement,) = project["build-system"]["requires"]
    locked = {Requirement(text).name: text for text in requirements("requirements-build.lock")}
    assert locked["hatchling"] == build_requirement
    assert set(project["dependency-groups"]["build"]) <= set(locked.values())
    assert "uv" in locked


def test_the_documented_commands_install_by_hash() -> None:
    script = (TOP / "install.sh").read_text()
    installations = [line for line in script.splitlines() if "pip install" in line]
    assert len(installations) == 3
    for line in installations:
        assert "--require-hashes" in line or "--no-deps --require-build-hashes" in line
    assert (TOP / "install.sh").stat().st_mode & 0o111
    for page in ("README.md", "CONTRIBUTING.md", "docs/guides/clusters.md"):
        assert "pip install" not in (TOP / page).read_text()


def test_ci_finds_the_test_command_of_the_readme() -> None:
    script = (TOP / ".ci" / "run").read_text()
    (line,) = [line for line in script.splitlines() if line.startswith("command=$(awk")]
    found = subprocess.run(
        ["bash", "-c", f'{line}; echo "$command"'],
        cwd=TOP, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout == "./install.sh dev && .venv/bin/pytest\n"
