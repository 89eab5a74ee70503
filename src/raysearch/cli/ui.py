"""`raysearch ui`: the MLflow UI on the store that the studies are in."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated

import typer
from rich.console import Console


def ui(
    port: Annotated[int, typer.Option(help="The port on 127.0.0.1.", min=1, max=65535)] = 5000,
) -> int:
    """Open the MLflow UI on the store that `launch` wrote to from this folder.

    Example: `raysearch ui --port 5001`
    """
    from raysearch.search.tracking.runs import default_store

    store = default_store()
    console = Console()
    if store.startswith(("http://", "https://")):
        console.print(f"The studies are on the tracking server {store}: open it in a browser.")
        return 0
    console.print(f"MLflow UI on {store}: http://127.0.0.1:{port}  (Ctrl-C ends it)")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store]
    # Its job queue starts nine processes that a search has no use for.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command += ["--host", "127.0.0.1", "--port", str(port)]
    try:
        return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603
    except KeyboardInterrupt:
        return 130
