"""How MLflow's UI shows a study: the page that compares its trials, and its address."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping

from mlflow.entities import ViewType

from raysearch.search.study.plan import Plan
from raysearch.search.tracking.tracking_store import STORE_ERRORS, connect

# MLflow stores a view of an experiment as a tag of it, and shows it at an address with the key of
# the tag. The value is an envelope; the state inside it is compressed, because a database may limit
# the value to 5,000 characters.
VIEW_KEY, VIEW_NAME = "raysearch", "Trials"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
COMPRESSED = "deflate;"
# The kind of an experiment for which the UI opens its pages of training, not those of traces.
KIND_TAG, TRAINING_KIND = "mlflow.experimentKind", "custom_model_development"
# The two pages of a view: the list of the runs beside charts, and the table of the runs.
CHARTS, TABLE = "CHART", "TABLE"
MAX_HPARAMS, MAX_LINKS, MAX_FOLDS, MAX_BARS = 8, 5, 5, 20
# The objective of the scores of all folds together, and its interval by patient.
POOLED, LOW, HIGH = "objective_pooled", "objective_low", "objective_high"
RANKING_METRIC = "objective_finished"
SHOWN_METRICS = (RANKING_METRIC, LOW, HIGH)
SHOWN_TAGS = ("selection", "state")
MORE_COLUMNS = ("metrics.`train_seconds`", "tags.`reason`")
# The other settings that the UI requires: nothing is pinned, hidden, grouped or expanded.
VIEW_DEFAULTS = {
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
    # A view whose sections were reordered keeps their order.
    "isAccordionReordered": True,
    "useGroupedValuesInCharts": True,
    "hideEmptyCharts": True,
    "groupBy": None,
    "groupsExpanded": {},
    "autoRefreshEnabled": True,
    "globalLineChartConfig": {
        "xAxisKey": "step",
        "lineSmoothness": 0,
        "selectedXAxisMetricKey": "",
    },
}

# The documents of MLflow's UI, which has no schema of them.
Document = Mapping[str, object]
Chart = Document


def view_tags(plan: Plan, created_ms: int) -> dict[str, str]:
    """Return the tags of an experiment that let the UI open on the trials of a study."""
    return {KIND_TAG: TRAINING_KIND, VIEW_TAG: view_envelope(view_state(plan), created_ms)}


def view_envelope(state: Document, created_ms: int) -> str:
    """Return the value of the tag of a view, as the UI itself stores it."""
    compressed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    envelope = {"name": VIEW_NAME, "createdAt": created_ms, "updatedAt": created_ms}
    return json.dumps({**envelope, "state": f"{COMPRESSED}{compressed}"})


def view_state(plan: Plan) -> Document:
    """Return the view of a study's trials in MLflow's UI.

    It lists the trials of this study only, the best finished one first, with their interval and the
    searched hyperparameters, beside charts of them.
    """
    hparams = searched_hparams(plan)[:MAX_HPARAMS]
    columns = [f"metrics.`{name}`" for name in SHOWN_METRICS]
    columns += [f"tags.`{name}`" for name in SHOWN_TAGS]
    columns += [f"params.`{name}`" for name in hparams]
    return {
        **VIEW_DEFAULTS,
        "searchFilter": f"tags.kind = 'trial' and tags.`raysearch.plan` = '{plan.identity}'",
        "orderByKey": f"metrics.`{RANKING_METRIC}`",
        "orderByAsc": plan.space.mode == "min",
        "selectedColumns": [*columns, *MORE_COLUMNS],
        "compareRunSections": [_section("search", "Search"), _section("curves", "Learning curves")],
        "compareRunCharts": [*_search_charts(plan), *_learning_curves(plan)],
    }


def searched_hparams(plan: Plan) -> list[str]:
    """Return the names of the hyperparameters that may differ between the trials of a study."""
    return [hparam.name for hparam in plan.space.hparams if len(set(hparam.values)) > 1]


def _section(uuid: str, name: str) -> Document:
    settings = {"display": True, "isReordered": True, "deleted": False, "isGenerated": False}
    return {"uuid": uuid, "name": name, **settings}


def _chart(uuid: str, kind: str, title: str, section: str, **settings: object) -> Chart:
    card = {"deleted": False, "isGenerated": False, "runsCountToCompare": 100}
    base = {"uuid": uuid, "type": kind, "displayName": title, "metricSectionId": section}
    return {**base, **card, **settings}


def _search_charts(plan: Plan) -> list[Chart]:
    metric = plan.space.metric
    # The chart leaves out every trial that lacks one of its axes.
    axes = [
        hparam.name
        for hparam in plan.space.hparams
        if len(set(hparam.values)) > 1 and not hparam.when
    ]
    coordinates = _chart(
        "coordinates",
        "PARALLEL",
        f"Hyperparameters and {metric}",
        "search",
        selectedParams=axes[:MAX_HPARAMS],
        selectedMetrics=["objective"],
        showAllRuns=True,
    )
    seconds = _chart(
        "seconds",
        "SCATTER",
        f"{metric} by seconds of training",
        "search",
        xaxis={"key": "train_seconds", "type": "METRIC"},
        yaxis={"key": "objective", "type": "METRIC"},
    )
    return [coordinates, seconds] if axes else [seconds]


def _learning_curves(plan: Plan) -> list[Chart]:
    metric = plan.space.metric
    folds = max(split.folds for split in plan.splits)
    by_fold = [f"fold_{fold}/{metric}" for fold in range(min(folds, MAX_FOLDS))]
    return [
        _line_chart("objective", f"{metric} by fold-epoch, mean of the folds", ["objective"]),
        _line_chart("folds", f"{metric} by epoch of each fold", by_fold),
        _line_chart("loss", "Training loss by fold-epoch", ["train_loss"]),
    ]


def _line_chart(uuid: str, title: str, metrics: list[str]) -> Chart:
    return _chart(
        uuid,
        "LINE",
        title,
        "curves",
        metricKey=metrics[0],
        selectedMetricKeys=metrics,
        xAxisKey="step",
        xAxisScaleType="linear",
        scaleType="linear",
        lineSmoothness=0,
        useGlobalXaxisKey=False,
        useGlobalLineSmoothing=True,
        yAxisKey="metric",
        yAxisExpressions=[],
    )


def study_page(ui_address: str, experiment_id: str, mode: str = CHARTS) -> str:
    """Return the address of the page that compares the trials of a study.

    Args:
        ui_address: Address of MLflow's UI, possibly with a token; empty for a link inside of it.
        experiment_id: The experiment of the study.
        mode: `CHARTS` or `TABLE`.
    """
    query = f"workflowType=machine_learning&compareRunsMode={mode}&viewStateShareKey={VIEW_KEY}"
    return f"{ui_address}#/experiments/{experiment_id}/runs?{query}"


def run_page(experiment_id: str, run_id: str, artifact: str = "") -> str:
    """Return the address of the page of a run, or of its artifact, inside the UI."""
    page = f"#/experiments/{experiment_id}/runs/{run_id}"
    return f"{page}/artifacts/{artifact}" if artifact else page


def study_links(store: str, ui_address: str) -> list[tuple[str, str]]:
    """Return the newest studies in `store`: their names, and the addresses of their pages.

    Args:
        store: The tracking store; if it does not exist yet, the list is empty.
        ui_address: Address of MLflow's UI, possibly with a token.
    """
    try:
        client = connect(store)
        experiments = client.search_experiments(
            ViewType.ACTIVE_ONLY, order_by=["last_update_time DESC"], max_results=1000
        )
    except STORE_ERRORS:
        return []
    studies = [experiment for experiment in experiments if VIEW_TAG in experiment.tags]
    return [(study.name, study_page(ui_address, study.experiment_id)) for study in studies][
        :MAX_LINKS
    ]
