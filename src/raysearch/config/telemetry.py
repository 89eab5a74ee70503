"""The environment variables that turn off the telemetry of the libraries."""

from __future__ import annotations

import os
from collections.abc import Mapping

NO_TELEMETRY: Mapping[str, str] = {
    # MLflow and Hugging Face's hub follow this convention, each of which also has its own variable.
    "DO_NOT_TRACK": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A cluster that is told to send no report sends one that says so, to this address.
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9",
}


def turn_off_telemetry() -> None:
    """Set the variables of `NO_TELEMETRY` that are not set, for this process and its children.

    A library reads its variable when it is imported, so this function is called before.
    """
    for name, value in NO_TELEMETRY.items():
        os.environ.setdefault(name, value)
