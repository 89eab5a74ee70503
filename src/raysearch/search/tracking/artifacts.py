"""What belongs to a study as a whole, as files of its parent run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS


def send_files(client: MlflowClient, run: str, files: Mapping[str, bytes]) -> None:
    """Put `files` beside the run, in place of those of the same names.

    A `.json` among them is a table with `columns` and `data`, which MLflow's UI shows as one; its
    own `log_table` would add to the one that an earlier launch of the study sent.
    """
    if not files:
        return
    with tempfile.TemporaryDirectory(prefix="raysearch-") as scratch:
        for name, content in files.items():
            (Path(scratch) / name).write_bytes(content)
        client.log_artifacts(run, scratch)
    tables = [{"path": name, "type": "table"} for name in files if name.endswith(".json")]
    known = json.loads(client.get_run(run).data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
    new = [one for one in tables if one not in known]
    if new:
        client.set_tag(run, MLFLOW_LOGGED_ARTIFACTS, json.dumps([*known, *new]))
