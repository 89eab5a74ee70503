"""`raysearch ui`: the MLflow UI on the store that the studies are in."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from rich.console import Console


def ui(
    port: Annotated[int, typer.Option(help="The port on 127.0.0.1.", min=1, max=65535)] = 5000,
) -> int | None:
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
    command += ["--host", "127.0.0.1", "--port", str(port)]
    # Its job queue starts nine processes that a search has no use for.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    sys.stdout.flush()
    # In place of this process, so that every signal reaches the server itself.
    return os.execve(sys.executable, command, environment)  # noqa: S606 no shell is wanted
