"""Converts the events of a trial to metrics, parameters and tags of its MLflow run."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from mlflow.entities import Metric, Param, RunTag

from raysearch.data.pseudonyms import without_folders
from raysearch.metrics.classification import mean_if_all_defined
from raysearch.search.journal.events import (
    ChampionSelected,
    Event,
    FoldReport,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
    TrialWarning,
)
from raysearch.search.journal.trial_costs import fixed_costs, running_costs


@dataclass(frozen=True)
class LogBatch:
    """What one event, or several, add to a run."""

    metrics: Sequence[Metric] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Its number of metrics, parameters and tags, which MLflow limits per request."""
        return len(self.metrics) + len(self.params) + len(self.tags)

    def arguments(self) -> dict[str, Sequence[Metric | Param | RunTag]]:
        """Return the arguments of `MlflowClient.log_batch`."""
        return {
            "metrics": list(self.metrics),
            "params": [Param(name, value) for name, value in self.params.items()],
            "tags": [RunTag(name, value) for name, value in self.tags.items()],
        }


def merge_batches(batches: Sequence[LogBatch]) -> LogBatch:
    """Merge `batches` to one; of several values of a tag, the last one counts."""
    return LogBatch(
        [metric for batch in batches for metric in batch.metrics],
        {name: value for batch in batches for name, value in batch.params.items()},
        {name: value for batch in batches for name, value in batch.tags.items()},
    )


def mlflow_name(name: str) -> str:
    """Replace the characters of `name` that MLflow does not allow in names."""
    return re.sub(r"[^\w ./-]", "_", name)


class TrialLogBatches:
    """Converts the events of one trial to batches, each event once and in order.

    Every launch converts equal events to equal batches, to the last bit.

    Args:
        epochs: Epochs of a fold, unless the trial has a hyperparameter of this name.
        searched: The hyperparameters that differ between trials; the others are tags.
    """

    def __init__(self, epochs: int, searched: Collection[str] = ()) -> None:
        self._epochs, self._searched = epochs, searched
        self._fold_end_metrics: list[Mapping[str, float | None]] = []
        self._reports: list[FoldReport] = []
        self._seconds = 0.0

    def convert(self, event: Event) -> LogBatch:
        """Convert the trial's next event; an event that MLflow does not store gives no content."""
        batch = LogBatch()
        match event:
            case TrialStarted():
                self._epochs = int(event.hparams.get("epochs", self._epochs))
                batch = self._start(event)
            case FoldReport():
                self._reports.append(event)
                costs = _texts(fixed_costs([event]).by_name())
                batch = LogBatch(self._report_metrics(event), costs, _report_tags(event))
            case TrialPaused():
                batch = LogBatch(tags={"state": "paused"})
            case TrialPromoted():
                batch = LogBatch(tags={"state": "running"})
            case TrialEnded():
                tags = {"state": event.status, "reason": without_folders(event.reason)}
                batch = LogBatch(self._final_metrics(event), tags=tags)
            case TrialWarning():
                batch = LogBatch(tags={"warning": without_folders(event.text)})
            case ChampionSelected():
                batch = LogBatch(_repeat_metrics(event), tags={"champion": event.trial})
            case _:
                pass
        return batch

    def _start(self, event: TrialStarted) -> LogBatch:
        """Return the searched hyperparameters as parameters, and the other ones as tags."""
        values = _texts({**event.hparams, "trial_seed": event.seed, "folds": event.folds})
        params = {name: text for name, text in values.items() if name in self._searched}
        tags = {name: text for name, text in values.items() if name not in params}
        return LogBatch(params=params, tags={**tags, "state": "running"})

    def _report_metrics(self, report: FoldReport) -> list[Metric]:
        """Return metrics of the trial by fold-epoch, and of the fold by its epoch."""
        self._seconds += report.seconds
        fold_means: dict[str, float | None] = {}
        if report.epoch % self._epochs == 0:
            self._fold_end_metrics.append(report.metrics)
            fold_means = {
                name: mean_if_all_defined([metrics[name] for metrics in self._fold_end_metrics])
                for name in report.metrics
            }
        train_metrics = {
            f"train_{name}": value for name, value in (report.train_metrics or {}).items()
        }
        train_metrics["train_loss"] = report.loss
        of_trial = {
            "objective": report.objective,
            "pooled": report.pooled,
            **train_metrics,
            **fold_means,
            "folds_done": len(self._fold_end_metrics),
            "train_seconds": self._seconds,
            **running_costs(self._reports).by_name(),
        }
        of_fold = {f"fold_{report.fold}/{name}": value for name, value in report.metrics.items()}
        of_fold |= {f"fold_{report.fold}/{name}": value for name, value in train_metrics.items()}
        epoch_in_fold = report.epoch - report.fold * self._epochs
        return [
            Metric(mlflow_name(name), value, _milliseconds(report), step)
            for values, step in ((of_trial, report.epoch), (of_fold, epoch_in_fold))
            for name, value in values.items()
            if value is not None
        ]

    def _final_metrics(self, event: TrialEnded) -> list[Metric]:
        """Return the objective that ranks a finished trial.

        A trial that did not finish has none: its last objective is of fewer folds or epochs.
        """
        if event.status != "finished" or not self._reports:
            return []
        last = self._reports[-1]
        value = last.objective if last.pooled is None else last.pooled
        if value is None:
            return []
        return [Metric("objective_finished", value, _milliseconds(event), last.epoch)]


def _repeat_metrics(event: ChampionSelected) -> list[Metric]:
    """Return the champion's objective with each repeat seed."""
    return [
        Metric("objective_repeats", value, _milliseconds(event), number)
        for number, value in enumerate(event.repeat_objectives, 1)
    ]


def _report_tags(report: FoldReport) -> dict[str, str]:
    tags = {"rung": str(report.epoch)} if report.rung else {}
    if report.micro_batch is not None:
        tags["micro_batch"] = str(report.micro_batch)
    return tags


def _texts(values: Mapping[str, str | int | float]) -> dict[str, str]:
    """Convert values to text; the path of a file of weights becomes its name."""
    return {name: without_folders(str(value)) for name, value in values.items()}


def _milliseconds(event: Event) -> int:
    """Return the time of `event` in milliseconds since the epoch, as MLflow counts."""
    return int(event.time * 1000)
