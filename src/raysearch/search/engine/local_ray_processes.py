"""Settings of the processes of a local Ray: no packet leaves the machine, and no trial starves."""

from __future__ import annotations

import os
from typing import Any

from ray._private.node import Node

# The servers of Ray's metrics resolve the host name, which may ask a name server.
METRICS = "RAY_enable_metrics_collection"
# What Ray adds to the niceness of its workers; 15 by default.
NICENESS = "RAY_worker_niceness"


def limit_local_ray() -> None:
    """Let the Ray that this process starts have no API server, autoscaler, metrics or log monitor.

    A study on one machine uses none of them. Ray starts the API server also without the dashboard,
    for its usage report. The API server asks the metadata services of Azure, Google Cloud and AWS
    which cloud it is on, even if the report is turned off. The log monitor sends what workers print
    to a driver that prints it; the logs are files also without it. `ray.init` has no option for
    the API server, the autoscaler's monitor and the log monitor.

    The workers have the niceness of this process: beside other programs, they would starve with
    Ray's default.
    """
    os.environ.setdefault(METRICS, "0")
    os.environ.setdefault(NICENESS, "0")
    Node.start_api_server = _start_no_api_server
    Node.start_monitor = _start_nothing
    Node.start_log_monitor = _start_nothing


def _start_no_api_server(node: Any, **_options: object) -> None:
    node._webui_url = ""  # noqa: SLF001 as Ray's own function without the dashboard


def _start_nothing(node: Any) -> None:
    del node
