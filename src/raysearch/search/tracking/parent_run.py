"""Adds files and evaluation results to the parent run of a study."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlflow.entities import Metric, RunTag
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

from raysearch.search.study.plan import Plan
from raysearch.search.tracking.log_batches import mlflow_name
from raysearch.search.tracking.study_runs import STUDY
from raysearch.search.tracking.tracking_store import STORE_ERRORS


@dataclass(frozen=True)
class RunContent:
    """What is added to a run.

    Args:
        metrics: Values by name.
        tags: Texts by name.
        files: Contents by file name; a `.json` file is a table with `columns` and `data`.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


def log_files(client: MlflowClient, run_id: str, files: Mapping[str, bytes]) -> None:
    """Log `files` as artifacts of a run; they replace artifacts with the same names.

    MLflow's UI shows a `.json` file as a table. MLflow's own `log_table` is not used, because it
    would append to the table of an earlier launch of the study.
    """
    if not files:
        return
    with tempfile.TemporaryDirectory(prefix="raysearch-") as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        client.log_artifacts(run_id, folder)
    tables = [{"path": name, "type": "table"} for name in files if name.endswith(".json")]
    logged = json.loads(client.get_run(run_id).data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
    new_tables = [table for table in tables if table not in logged]
    if new_tables:
        client.set_tag(run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps([*logged, *new_tables]))


def log_to_parent_run(plan: Plan, store: str, content: RunContent) -> Exception | None:
    """Add `content` to the parent run of the study of `plan` in the tracking store.

    Returns:
        The error if the store did not accept it: the study's folder has the same content.
    """
    try:
        client = MlflowClient(tracking_uri=store, registry_uri=store)
        run_id = _find_parent_run(client, plan)
        if run_id is None:
            return LookupError(f"{store} has no run of study {plan.name!r}")
        now_ms = int(time.time() * 1000)
        metrics = [
            Metric(mlflow_name(name), value, now_ms, 0) for name, value in content.metrics.items()
        ]
        tags = [RunTag(name, text) for name, text in content.tags.items()]
        client.log_batch(run_id, metrics=metrics, tags=tags)
        log_files(client, run_id, content.files)
    except STORE_ERRORS as error:
        return error
    return None


def _find_parent_run(client: MlflowClient, plan: Plan) -> str | None:
    experiment = client.get_experiment_by_name(plan.name)
    if experiment is None:
        return None
    query = f"tags.`raysearch.plan` = '{plan.identity}' and tags.kind = '{STUDY}'"
    runs = client.search_runs([experiment.experiment_id], query, max_results=1)
    return str(runs[0].info.run_id) if runs else None
