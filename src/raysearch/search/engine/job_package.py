"""What a job brings to a cluster of somebody else: this package, and no library."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

from raysearch.config.names import reject_login
from raysearch.config.run_location import WEB_SCHEMES
from raysearch.required_packages import JOB_VARIABLE

PACKAGE = "raysearch"
# The files of the package's metadata that the program reads.
METADATA = ("METADATA", "entry_points.txt")
# The variables of this process that the job gets, too. Ray shows them in its dashboard, so those of
# a login are not among them.
FORWARDED = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "AWS_ENDPOINT_URL", "RAYSEARCH_SCHEMES")


def job_program(brings_package: bool) -> list[str]:
    """Return the words that run `raysearch` in a job.

    Args:
        brings_package: Whether the job brings the package.
    """
    return ["python", "-m", PACKAGE] if brings_package else [PACKAGE]


def job_package(folder: Path) -> Iterator[Path]:
    """Copy this package, and its metadata, to `folder`; yield the two copies."""
    source = Path(__file__).parents[2]
    package = folder / PACKAGE
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    yield package
    installed = distribution(PACKAGE)
    metadata = folder / f"{PACKAGE}-{installed.version}.dist-info"
    metadata.mkdir()
    for name in METADATA:
        (metadata / name).write_text(installed.read_text(name) or "", encoding="utf-8")
    yield metadata


def job_variables() -> dict[str, str]:
    """Return the environment variables of a job that brings the package.

    It first compares the versions of the machine's packages with those that raysearch requires.

    Raises:
        DataError: If one of them contains a password.
    """
    variables = {name: os.environ[name] for name in FORWARDED if os.environ.get(name)}
    for name, value in list(variables.items()):
        reject_login(value)
        # A database or a folder of this machine is not on the head.
        if name.startswith("MLFLOW_") and not value.startswith(WEB_SCHEMES):
            del variables[name]
    # Ray would kill a job three seconds after it was told to stop, before its state is saved.
    return variables | {JOB_VARIABLE: "1", "RAY_JOB_STOP_WAIT_TIME_S": "60"}
