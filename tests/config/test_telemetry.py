"""The telemetry of the libraries is off wherever they run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from raysearch.config.telemetry import NO_TELEMETRY, turn_off_telemetry

# MLflow sends nothing if one of these is set, whatever raysearch does.
CI = ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST")
# Prints whether MLflow and Ray report, after an import of raysearch's own module.
REPORTS = """
import os
import raysearch.{module}
from mlflow.telemetry.client import get_telemetry_client
from mlflow.telemetry.utils import is_telemetry_disabled
from ray._common.usage.usage_lib import usage_stats_enabled
print(get_telemetry_client() is None, is_telemetry_disabled(), usage_stats_enabled())
"""


def test_the_variables_of_a_user_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NO_TELEMETRY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    before = dict(os.environ)
    turn_off_telemetry()
    try:
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    finally:
        for name in NO_TELEMETRY.keys() - before.keys():
            del os.environ[name]


@pytest.mark.parametrize("module", ["search.tracking.tracking_store", "workflow"])
def test_mlflow_and_ray_report_nothing(module: str) -> None:
    names = {*CI, *NO_TELEMETRY}
    environment = {name: value for name, value in os.environ.items() if name not in names}
    finished = subprocess.run(
        [sys.executable, "-c", REPORTS.format(module=module)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert finished.stdout.split() == ["True", "True", "False"]
