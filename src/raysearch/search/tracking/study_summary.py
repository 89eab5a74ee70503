"""Adds to MLflow how a study ended: the ranking of its trials, a description, and its files."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from mlflow.entities import Metric, RunTag
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS, MLFLOW_RUN_NOTE

from raysearch.data.scratch_folder import scratch_folder
from raysearch.metrics.interval import Interval
from raysearch.search.tracking.study_view import HIGH, LOW, POOLED, TABLE, run_page, study_page

COMMAND = "command"
# The tag of a trial that says what the selection made of it.
SELECTION = "selection"
# The files of a parent run that its description links, and the texts of the links.
LINKED_FILES = {"leaderboard.json": "Leaderboard", "figures.html": "Figures"}
REPORT = "report.html"


@dataclass(frozen=True)
class RankedTrial:
    """A finished trial in the selection.

    Args:
        objective: The objective of its pooled out-of-fold scores, with the interval by patient.
        selection: `champion`, `tied` or empty.
    """

    objective: Interval
    selection: str


@dataclass(frozen=True)
class StudySummary:
    """How a study ended.

    Args:
        headline: One sentence with the champion, as Markdown.
        description: The headline and the best trials, as Markdown.
        trials: The finished trials by name.
        version: The version of the registered champion.
        files: Artifacts of the parent run, by name.
    """

    headline: str
    description: str
    trials: Mapping[str, RankedTrial]
    version: str
    files: Mapping[str, bytes] = field(default_factory=dict)


class Runs(Protocol):
    """The runs of a study."""

    experiment_id: str
    parent_id: str
    name: str

    def update(self, trial: str, send: Callable[[str], None]) -> None:
        """Call `send` with the id of the run of `trial`, if it has one."""


class SummaryInterruptedError(Exception):
    """A summary was not logged completely, because the study was interrupted."""


def log_summary(
    client: MlflowClient,
    runs: Runs,
    summary: StudySummary,
    is_interrupted: Callable[[], bool] = lambda: False,
) -> None:
    """Log the summary of a study; it replaces an earlier one.

    The interval of a trial depends on the number of replicates, and so on the number of finished
    trials, which is the step of its metrics.

    Args:
        client: The client of the tracking store.
        runs: The runs of the study.
        summary: How the study ended.
        is_interrupted: Returns whether the rest is left out; it is asked before each trial.

    Raises:
        SummaryInterruptedError: If the rest was left out.
    """
    step = len(summary.trials)
    for trial, ranked in summary.trials.items():
        if is_interrupted():
            raise SummaryInterruptedError
        runs.update(trial, partial(_log_ranked_trial, client, ranked, step))
    log_files(client, runs.parent_id, summary.files)
    names = {file.path for file in client.list_artifacts(runs.parent_id)}
    links = _links(runs, summary.version, names)
    command = client.get_run(runs.parent_id).data.tags.get(COMMAND, "")
    text = "\n\n".join([summary.description, *command_lines(command), links])
    client.set_tag(runs.parent_id, MLFLOW_RUN_NOTE, text)
    parent = f"[Summary]({run_page(runs.experiment_id, runs.parent_id)})"
    # The page of an experiment shows the first line of its description.
    note = f"{parent} · {links}\n\n{summary.headline}"
    client.set_experiment_tag(runs.experiment_id, MLFLOW_RUN_NOTE, note)


def link_report(client: MlflowClient, run_id: str) -> None:
    """Add a link to the report, which the parent run just got, to its description."""
    run = client.get_run(run_id)
    note = run.data.tags.get(MLFLOW_RUN_NOTE, "")
    link = f"[Report]({run_page(run.info.experiment_id, run_id, REPORT)})"
    if link not in note:  # the links are at the end
        client.set_tag(run_id, MLFLOW_RUN_NOTE, f"{note} · {link}" if note else link)


def command_lines(command: str) -> list[str]:
    """Return the paragraph with the command of a study, if it is known."""
    return [f"Command: `{command}`"] if command else []


def _log_ranked_trial(client: MlflowClient, ranked: RankedTrial, step: int, run_id: str) -> None:
    data = client.get_run(run_id).data
    interval, now_ms = ranked.objective, int(time.time() * 1000)
    values = {POOLED: interval.value, LOW: interval.low, HIGH: interval.high}
    metrics = [
        Metric(name, value, now_ms, step)
        for name, value in values.items()
        if value is not None and data.metrics.get(name) != value
    ]
    has_changed = data.tags.get(SELECTION, "") != ranked.selection
    tags = [RunTag(SELECTION, ranked.selection)] if has_changed else []
    if metrics or tags:
        client.log_batch(run_id, metrics=metrics, tags=tags)


def _links(runs: Runs, version: str, names: set[str]) -> str:
    """Return links to the pages of a study inside the UI, as Markdown."""
    experiment, parent = runs.experiment_id, runs.parent_id
    links = {"Charts": study_page("", experiment), "Table": study_page("", experiment, TABLE)}
    links |= {
        title: run_page(experiment, parent, name)
        for name, title in {**LINKED_FILES, REPORT: "Report"}.items()
        if name in names
    }
    links["Champion"] = f"#/models/{runs.name}/versions/{version}"
    return " · ".join(f"[{title}]({address})" for title, address in links.items())


def log_files(client: MlflowClient, run_id: str, files: Mapping[str, bytes]) -> None:
    """Log `files` as artifacts of a run; they replace artifacts with the same names.

    MLflow's UI shows a `.json` file as a table. MLflow's own `log_table` is not used, because it
    would append to the table of an earlier launch of the study.
    """
    if not files:
        return
    with scratch_folder() as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        client.log_artifacts(run_id, str(folder))
    tables = [{"path": name, "type": "table"} for name in files if name.endswith(".json")]
    logged = json.loads(client.get_run(run_id).data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
    new_tables = [table for table in tables if table not in logged]
    if new_tables:
        client.set_tag(run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps([*logged, *new_tables]))
