"""The records that the launcher and the workers of a study exchange through Ray Tune."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ray import tune

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.search.engine.nodes import current_node_id
from raysearch.search.journal.codec import record_from_json, record_to_json
from raysearch.search.journal.events import FoldReport
from raysearch.search.journal.history import Trial
from raysearch.search.study.study import Study


@dataclass(frozen=True)
class TrialTask:
    """The description of a trial that its worker receives.

    Args:
        study: Address of the study's folder.
        data: Address of the shards.
        trial: Name of the trial.
        hparams: Its hyperparameters.
        seed: Seed of its training.
        folds: Its number of folds.
        reported_epochs: Fold-epochs that the journal has already.
        cpus: CPU cores of the worker.
        score_hashes: SHA-256 of the files of scores that the journal names, by fold-epoch.
        code_hash: SHA-256 of the code of the user's that the launch has allowed; empty if none.
    """

    study: str
    data: str
    trial: str
    hparams: Hparams
    seed: int
    folds: int
    reported_epochs: int
    cpus: float
    score_hashes: Mapping[int, str] = field(default_factory=dict)
    code_hash: str = ""


@dataclass(frozen=True)
class TrialFailed:
    """The training of the trial failed, and would fail again."""

    reason: str


@dataclass(frozen=True)
class TrialRejected:
    """The trial's network exceeds a limit of the space."""

    reason: str


@dataclass(frozen=True)
class WorkerUnavailable:
    """The worker cannot train any trial now, for example because its storage is not available."""

    reason: str


@dataclass(frozen=True)
class WorkerWarning:
    """Something that the user should know about a trial that continues."""

    text: str


WorkerMessage = FoldReport | TrialFailed | TrialRejected | WorkerUnavailable | WorkerWarning
MESSAGE_TYPES: Mapping[str, type[WorkerMessage]] = {
    kind.__name__: kind
    for kind in (FoldReport, TrialFailed, TrialRejected, WorkerUnavailable, WorkerWarning)
}
# A configuration of a trial or a result, as Tune requires it, and the keys of both.
TuneValues = Mapping[str, Any]
TASK, MESSAGE, KIND, NODE = "task", "message", "kind", "node"


def trial_task(study: Study, trial: Trial) -> TrialTask:
    """Describe `trial` for a worker."""
    return TrialTask(
        study=study.folder.address,
        data=study.plan.data,
        trial=trial.id,
        hparams=dict(trial.hparams),
        seed=trial.seed,
        folds=trial.folds,
        reported_epochs=trial.epoch,
        cpus=study.plan.space.resources.cpus,
        score_hashes=dict(trial.score_hashes),
        code_hash=study.plan.code.sha256,
    )


def task_to_config(task: TrialTask) -> dict[str, Any]:
    """Convert a task to the configuration of a Tune trial."""
    return {TASK: record_to_json(task)}


def task_from_config(config: TuneValues) -> TrialTask:
    """Return the task in the configuration of a Tune trial."""
    return record_from_json(TrialTask, config[TASK])


def send_message(message: WorkerMessage) -> None:
    """Report a message to the study; called in the worker of a trial."""
    if isinstance(message, FoldReport):
        message = replace(message, host=socket.gethostname())
    content = json.dumps(record_to_json(message))  # a text, because Tune flattens nested values
    tune.report({KIND: type(message).__name__, MESSAGE: content, NODE: current_node_id()})


def message_from_result(result: TuneValues) -> WorkerMessage | None:
    """Return the message in a result of Tune; None if Tune itself made the result."""
    if MESSAGE not in result:
        return None
    return record_from_json(MESSAGE_TYPES[result[KIND]], json.loads(result[MESSAGE]))


def node_from_result(result: TuneValues) -> str | None:
    """Return the id of the node that sent a result of Tune."""
    node_id = result.get(NODE)
    return None if node_id is None else str(node_id)
