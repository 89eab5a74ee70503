"""Adds files and evaluation results to the parent run of a study."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlflow.entities import Metric, RunTag
from mlflow.tracking import MlflowClient

from raysearch.errors import without_passwords
from raysearch.search.study.plan import Plan
from raysearch.search.tracking.log_batches import mlflow_name
from raysearch.search.tracking.study_runs import STUDY
from raysearch.search.tracking.study_summary import REPORT, link_report, log_files
from raysearch.search.tracking.tracking_store import STORE_ERRORS, connect


@dataclass(frozen=True)
class RunContent:
    """What is added to a run.

    Args:
        metrics: Values by name.
        tags: Texts by name.
        files: Contents by file name; a `.json` file is a table with `columns` and `data`.
        time_ms: The time of the metrics, in milliseconds since the epoch; None for now. MLflow
            stores a metric once that is logged again with the same time and value.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    time_ms: int | None = None


def log_to_parent_run(plan: Plan, store: str, content: RunContent) -> Exception | None:
    """Add `content` to the parent run of the study of `plan` in the tracking store.

    Returns:
        The error if the store did not accept it: the study's folder has the same content.
    """
    try:
        client = connect(store)
        run_id = _find_parent_run(client, plan)
        if run_id is None:
            return LookupError(f"{without_passwords(store)} has no run of study {plan.name!r}")
        time_ms = int(time.time() * 1000) if content.time_ms is None else content.time_ms
        metrics = [
            Metric(mlflow_name(name), value, time_ms, 0) for name, value in content.metrics.items()
        ]
        tags = [RunTag(name, text) for name, text in content.tags.items()]
        client.log_batch(run_id, metrics=metrics, tags=tags)
        log_files(client, run_id, content.files)
        if REPORT in content.files:
            link_report(client, run_id)
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
