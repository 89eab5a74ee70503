"""What each event of a trial adds to its run in MLflow: points, parameters and tags."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlflow.entities import Metric, Param, RunTag

from raysearch.metrics.classification import mean_of_all
from raysearch.search.journal.journal import Event
from raysearch.search.journal.trial_costs import fixed_costs, running_costs


@dataclass(frozen=True)
class LogBatch:
    """What one event, or several joined, adds to a run."""

    points: Sequence[Metric] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many things are in it, as MLflow counts them against a request's limit."""
        return len(self.points) + len(self.params) + len(self.tags)

    def batch(self) -> dict[str, Sequence[Metric | Param | RunTag]]:
        """The arguments of `log_batch`."""
        return {
            "metrics": list(self.points),
            "params": [Param(name, value) for name, value in self.params.items()],
            "tags": [RunTag(name, value) for name, value in self.tags.items()],
        }


def joined(pieces: Sequence[LogBatch]) -> LogBatch:
    """`pieces` as one; where several say the same tag, the last one counts."""
    return LogBatch(
        [point for piece in pieces for point in piece.points],
        {name: value for piece in pieces for name, value in piece.params.items()},
        {name: value for piece in pieces for name, value in piece.tags.items()},
    )


class TrialLogBatches:
    """Turns the events of one trial, each once and in their order, into pieces of its run.

    The same events make the same pieces at every launch, to the last bit.
    """

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._fold_ends: list[Mapping[str, float | None]] = []
        self._reports: list[Event] = []
        self._seconds = 0.0

    def of(self, event: Event) -> LogBatch:
        """The piece of `event`; an empty one where it is of no use to MLflow."""
        match event["event"]:
            case "trial":
                params = {**event["hparams"], "trial_seed": event["seed"], "folds": event["folds"]}
                texts = {name: str(value) for name, value in params.items()}
                return LogBatch(params=texts, tags={"state": "running"})
            case "report":
                self._reports.append(event)
                costs = fixed_costs([event])
                texts = {name: str(value) for name, value in costs.items()}
                return LogBatch(self._points(event), texts, _rung(event))
            case "pause":
                tags = {"state": "paused"}
            case "promote":
                tags = {"state": "running"}
            case "end":
                tags = {"state": event["status"], "reason": event["reason"]}
                return LogBatch(self._finished(event), tags=tags)
            case "warning":
                tags = {"warning": event["text"]}
            case "champion":
                return LogBatch(_fresh(event), tags={"champion": event["trial"]})
            case _:
                tags = {}
        return LogBatch(tags=tags)

    def _points(self, event: Event) -> list[Metric]:
        at, epoch = int(event["at"] * 1000), event["epoch"]
        metrics: Mapping[str, float | None] = event["metrics"]
        ends = self._fold_ends
        self._seconds += event["seconds"]
        means: dict[str, float | None] = {}
        if epoch % self._epochs == 0:
            ends.append(metrics)
            means = {name: mean_of_all([end[name] for end in ends]) for name in metrics}
        points = {
            "objective": event["objective"],
            "pooled": event.get("pooled"),
            "train_loss": event["loss"],
            **means,
            "folds_done": len(ends),
            "train_seconds": self._seconds,
            **running_costs(self._reports),
        }
        fold = event["fold"]
        in_fold = {f"fold_{fold}/{name}": value for name, value in metrics.items()}
        in_fold[f"fold_{fold}/train_loss"] = event["loss"]
        return [
            Metric(plain(name), value, at, step)
            for group, step in ((points, epoch), (in_fold, epoch - fold * self._epochs))
            for name, value in group.items()
            if value is not None
        ]

    def _finished(self, event: Event) -> list[Metric]:
        """What a finished trial is ranked by: the others' objective is of fewer folds or epochs."""
        if event["status"] != "finished" or not self._reports:
            return []
        last = self._reports[-1]
        pooled = last.get("pooled")
        value = last["objective"] if pooled is None else pooled
        if value is None:
            return []
        return [Metric("objective_finished", value, int(event["at"] * 1000), last["epoch"])]


def _fresh(event: Event) -> list[Metric]:
    """The champion's objective with each fresh seed."""
    at, values = int(event["at"] * 1000), event.get("fresh", ())
    return [Metric("objective_fresh", value, at, number) for number, value in enumerate(values, 1)]


def plain(name: str) -> str:
    """`name` without what MLflow allows in no name."""
    return re.sub(r"[^\w ./-]", "_", name)


def _rung(report: Event) -> dict[str, str]:
    """The last rung, and the rows of a micro-batch where memory was short."""
    tags = {"rung": str(report["epoch"])} if report["rung"] else {}
    if "micro_batch" in report:
        tags["micro_batch"] = str(report["micro_batch"])
    return tags
