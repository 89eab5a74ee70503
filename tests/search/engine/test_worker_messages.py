"""Messages of workers, and the descriptions of trials, through Tune's dictionaries."""

from __future__ import annotations

from typing import Any

import pytest

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.search.engine import worker_messages
from raysearch.search.engine.worker_messages import (
    TrialFailed,
    TrialRejected,
    TrialTask,
    WorkerMessage,
    WorkerUnavailable,
    WorkerWarning,
    message_from_result,
    node_from_result,
    send_message,
    task_from_config,
    task_to_config,
)
from raysearch.search.journal.events import FoldReport, ModelCosts

REPORT = FoldReport(
    trial="t0001",
    fold=0,
    epoch=1,
    objective=1 / 3,
    metrics={"auroc": 1 / 3, "f1": None},
    loss=0.1 + 0.2,
    seconds=1.5,
    host="a",
    costs=ModelCosts(16, 1234, 5_000_000_000),
)


@pytest.mark.parametrize(
    "message",
    [
        REPORT,
        TrialFailed("nan-loss"),
        TrialRejected("parameters 2 above 1"),
        WorkerUnavailable("a: no route to host"),
        WorkerWarning("damaged checkpoint"),
    ],
)
def test_a_message_is_received_as_it_was_sent(
    monkeypatch: pytest.MonkeyPatch, message: WorkerMessage
) -> None:
    results: list[dict[str, Any]] = []
    monkeypatch.setattr("ray.tune.report", results.append)
    monkeypatch.setattr(worker_messages, "current_node_id", lambda: "node")
    monkeypatch.setattr("socket.gethostname", lambda: "a")
    send_message(message)
    (result,) = results
    assert message_from_result(result) == message
    assert node_from_result(result) == "node"
    assert all(isinstance(value, str) for value in result.values())  # Tune flattens other values


def test_a_result_of_tune_itself_has_no_message() -> None:
    assert message_from_result({"done": True}) is None
    assert node_from_result({"done": True}) is None


def test_a_task_is_received_as_it_was_sent() -> None:
    hparams: Hparams = {"folds": 2, "learning_rate": 1e-3, "tta": "none", "balanced_sampling": True}
    task = TrialTask("/studies/x", "/shards", "t0001", hparams, 2**53 - 1, 2, 3, 1.0)
    assert task_from_config(task_to_config(task)) == task
    types = [type(value) for value in task_from_config(task_to_config(task)).hparams.values()]
    assert types == [int, float, str, bool]
