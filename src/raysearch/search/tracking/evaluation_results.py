"""What is found out about a study after it has ended, beside its parent run."""

from __future__ import annotations

import time
from collections.abc import Mapping

from mlflow.entities import Metric, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from raysearch.search.study.plan import Plan
from raysearch.search.tracking.artifacts import send_files
from raysearch.search.tracking.log_batches import plain
from raysearch.search.tracking.study_runs import STUDY


def send_results(
    plan: Plan,
    store: str,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    files: Mapping[str, bytes],
) -> Exception | None:
    """Add `metrics`, `tags` and `files` to the parent run of the study of `plan` in `store`.

    What failed, if anything did: what was found out is in the study's folder, too.
    """
    try:
        client = MlflowClient(tracking_uri=store, registry_uri=store)
        run = _parent(client, plan)
        if run is None:
            return LookupError(f"{store} has no run of study {plan.name!r}")
        now = int(time.time() * 1000)
        points = [Metric(plain(name), value, now, 0) for name, value in metrics.items()]
        marks = [RunTag(name, text) for name, text in tags.items()]
        client.log_batch(run, metrics=points, tags=marks)
        send_files(client, run, files)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        return error
    return None


def _parent(client: MlflowClient, plan: Plan) -> str | None:
    experiment = client.get_experiment_by_name(plan.name)
    if experiment is None:
        return None
    query = f"tags.`raysearch.plan` = '{plan.identity}' and tags.kind = '{STUDY}'"
    found = client.search_runs([experiment.experiment_id], query, max_results=1)
    return str(found[0].info.run_id) if found else None
