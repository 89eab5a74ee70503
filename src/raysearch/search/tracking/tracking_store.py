"""The MLflow tracking store: its address, whether it can be used, and its view of studies."""

from __future__ import annotations

import json
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from raysearch.errors import first_line, without_passwords
from raysearch.search.study.plan import Plan

DEFAULT_STORE = "sqlite:///mlflow.db"
# What MLflow and its client raise if a store is unreachable or rejects a request.
STORE_ERRORS = (MlflowException, SQLAlchemyError, OSError)
CHECK_TIMEOUT_S = 10
# MLflow stores a shared view as a tag of the experiment, and shows it at an address with the key of
# the tag. Without a view, MLflow opens a page of traces, which a study does not have.
VIEW_KEY = "raysearch"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
MAX_HPARAMS, MAX_LINKS = 8, 5
SHOWN_METRICS = ("objective_finished", "objective", "folds_done")
SHOWN_TAGS = ("state", "rung", "reason")
# The other settings that the UI requires: nothing is hidden, pinned, grouped or filtered.
VIEW_DEFAULTS = {
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


def default_store() -> str:
    """Return the tracking store: MLFLOW_TRACKING_URI, or `mlflow.db` in the working directory.

    If a server's address contains a login, the login is moved into MLflow's environment variables:
    MLflow would print the address with every run.
    """
    variables = mlflow.environment_variables
    store = str(variables.MLFLOW_TRACKING_URI.get() or DEFAULT_STORE)
    parts = urlsplit(store)
    if parts.scheme not in ("http", "https") or parts.password is None:
        return store
    variables.MLFLOW_TRACKING_USERNAME.set(unquote(parts.username or ""))
    variables.MLFLOW_TRACKING_PASSWORD.set(unquote(parts.password))
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def store_error(store: str) -> str:
    """Return why the tracking store cannot be used, for example a wrong login; empty if it can."""
    variables = mlflow.environment_variables
    settings = {
        variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES: 1,
        variables.MLFLOW_HTTP_REQUEST_TIMEOUT: CHECK_TIMEOUT_S,
    }
    previous = {variable: variable.get_raw() for variable in settings}
    for variable, value in settings.items():
        variable.set(value)
    try:
        MlflowClient(tracking_uri=store).search_experiments(max_results=1)
    except STORE_ERRORS as error:
        return without_passwords(first_line(error))
    finally:
        for variable, value in previous.items():
            variable.unset() if value is None else variable.set(value)
    return ""


def view_state(plan: Plan) -> str:
    """Return the view of a study's runs in MLflow's UI as JSON.

    It lists all runs, the best finished trial first, with the searched hyperparameters.
    """
    finished, *metrics = (f"metrics.`{name}`" for name in SHOWN_METRICS)
    hparams = [
        hyperparameter.name
        for hyperparameter in plan.space.hparams
        if hyperparameter.kind != "fixed"
    ][:MAX_HPARAMS]
    columns = [finished, *metrics, *(f"tags.`{name}`" for name in SHOWN_TAGS)]
    columns += [f"params.`{name}`" for name in hparams]
    order = {"orderByKey": finished, "orderByAsc": plan.space.mode == "min"}
    return json.dumps({**VIEW_DEFAULTS, **order, "selectedColumns": columns})


def study_links(store: str, ui_address: str) -> list[tuple[str, str]]:
    """Return the newest studies in `store`: their names, and the addresses of their views.

    Args:
        store: The tracking store; if it does not exist yet, the list is empty.
        ui_address: Address of MLflow's UI.
    """
    try:
        client = MlflowClient(tracking_uri=store)
        experiments = client.search_experiments(
            ViewType.ACTIVE_ONLY, order_by=["last_update_time DESC"], max_results=1000
        )
    except STORE_ERRORS:
        return []
    studies = [experiment for experiment in experiments if VIEW_TAG in experiment.tags]
    query = f"workflowType=machine_learning&viewStateShareKey={VIEW_KEY}"
    return [
        (study.name, f"{ui_address}/#/experiments/{study.experiment_id}/runs?{query}")
        for study in studies[:MAX_LINKS]
    ]
