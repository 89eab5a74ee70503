"""How a study's runs are shown in MLflow's UI: its columns and their order, and where that is.

MLflow keeps such a view as a tag of the experiment, and shows it at an address with the tag's key.
Without one, a stranger comes to a page of traces, which no study has.
"""

from __future__ import annotations

import json

from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from raysearch.search.study.plan import Plan

KEY = "raysearch"
TAG = f"mlflow.sharedViewState.{KEY}"
MAX_HPARAMS, MAX_LINKS = 8, 5
SHOWN_METRICS = ("objective_finished", "objective", "folds_done")
# What the UI wants to be told, too: nothing hidden, pinned, grouped or filtered.
PLAIN = {
    "searchFilter": "",
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "modelVersionFilter": "All Runs",
    "datasetsFilter": [],
    "columnOrder": [],
    "columnWidths": {},
    "runsExpanded": {},
    "runsPinned": [],
    "runsHidden": [],
    "runsVisibilityMap": {},
    "runsHiddenMode": "SHOW_ALL",
    "viewMaximized": False,
    "runListHidden": False,
    "isAccordionReordered": False,
    "useGroupedValuesInCharts": True,
    "hideEmptyCharts": True,
    "groupBy": None,
    "groupsExpanded": {},
    "autoRefreshEnabled": False,
}


def shared_view(plan: Plan) -> str:
    """The study's runs in one list, the best finished trial first, with what tells them apart."""
    finished, *others = (f"metrics.`{name}`" for name in SHOWN_METRICS)
    hparams = [
        hyperparameter.name
        for hyperparameter in plan.space.hparams
        if hyperparameter.kind != "fixed"
    ][:MAX_HPARAMS]
    shown = [finished, *others, *(f"tags.`{name}`" for name in ("state", "rung", "reason"))]
    order = {"orderByKey": finished, "orderByAsc": plan.space.mode == "min"}
    columns = [*shown, *(f"params.`{name}`" for name in hparams)]
    return json.dumps({**PLAIN, **order, "selectedColumns": columns})


def study_links(store: str, top: str) -> list[tuple[str, str]]:
    """The newest studies in `store`: their names, and where the UI at `top` compares their runs.

    None where there is no such store yet.
    """
    try:
        client = MlflowClient(tracking_uri=store)
        found = client.search_experiments(
            ViewType.ACTIVE_ONLY, order_by=["last_update_time DESC"], max_results=1000
        )
    except (MlflowException, SQLAlchemyError, OSError):
        return []
    mine = [one for one in found if TAG in one.tags][:MAX_LINKS]
    query = f"workflowType=machine_learning&viewStateShareKey={KEY}"
    return [(one.name, f"{top}/#/experiments/{one.experiment_id}/runs?{query}") for one in mine]
