"""The training of one trial, readable from top to bottom; it knows nothing of Ray.

The resource is the fold-epoch: fold by fold, a fresh model a fold. After each, `report` gets a
`FoldEpoch`; what it raises ends the training.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from raysearch.metrics.classification import score
from raysearch.training.failures import UNDEFINED, TrainingFailedError
from raysearch.training.fold_training import FoldRun, Judged, State
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData


@dataclass(frozen=True)
class FoldEpoch:
    """One epoch in one fold, and what the judged rows say of it.

    `epoch` counts fold-epochs from 1; `objective` is the mean over the finished folds and this
    one. `metrics` are those of this fold now; `seconds` is the time that this fold-epoch took,
    a fold's first one with its pre-processing; `samples` are the patches that it learned from,
    None where an older checkpoint does not tell.
    """

    epoch: int
    fold: int
    objective: float
    loss: float
    metrics: Mapping[str, float | None]
    seconds: float
    samples: int | None = None


@dataclass(frozen=True)
class FoldNet:
    """A net that has learned a fold, the pre-processing fitted to it, and what it judged."""

    net: nn.Module
    preprocessing: nn.Module
    judged: Judged


Report = Callable[[FoldEpoch, Judged, Callable[[], State]], None]


def train(
    config: TrainConfig, data: TrainingData, report: Report, state: State | None = None
) -> None:
    """Train `config` over every fold of `data`, going on from `state` where one is given.

    After each fold-epoch, `report` gets the fold-epoch, the judged rows, and a function that
    returns the whole state as one dictionary of tensors and plain values: the checkpoint.
    TrainingFailedError when the loss or the objective is not a finite number.
    """
    done = 0 if state is None else int(state["epoch"])
    history = [] if state is None else [FoldEpoch(**one) for one in state["history"]]
    run: FoldRun | None = None
    for epoch in range(done, config.epochs * len(data.folds)):
        fold, epoch_in_fold = divmod(epoch, config.epochs)
        began = time.monotonic()
        if run is None or epoch_in_fold == 0:
            run = FoldRun(config, data, fold)
            if state is not None and epoch_in_fold:
                run.load(state)
            state = None
        loss = run.learn(epoch_in_fold)
        judged = run.judge(averaged=epoch_in_fold + 1 == config.epochs)
        metrics = measure(data, judged)
        objective = mean_objective(history, config, fold, metrics[config.metric])
        seconds = time.monotonic() - began
        samples = len(run.rows)
        history.append(FoldEpoch(epoch + 1, fold, objective, loss, metrics, seconds, samples))
        report(history[-1], judged, _saver(run, history))


def _saver(run: FoldRun, history: list[FoldEpoch]) -> Callable[[], State]:
    """A function that returns the state after the fold-epochs of `history`, at least one."""
    return lambda: {
        "epoch": history[-1].epoch,
        "history": [asdict(one) for one in history],
        **run.state(),
    }


def train_fold(config: TrainConfig, data: TrainingData, fold: int) -> FoldNet:
    """One `fold` of `data` from its beginning to its end, judged there as `train` does.

    It is what a whole training of `config` comes to in that fold, to the last bit.
    """
    run = FoldRun(config, data, fold)
    for epoch in range(config.epochs):
        run.learn(epoch)
    return FoldNet(run.net, run.preprocessing, run.judge(averaged=True))


def measure(data: TrainingData, judged: Judged) -> dict[str, float | None]:
    """The metrics of the judged rows, on the whole array."""
    labels = data.labels.cpu().numpy()[judged.rows]
    return score(labels, probabilities(judged.logits), data.class_names)


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The softmax of `logits` (rows, classes), in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def mean_objective(
    history: list[FoldEpoch], config: TrainConfig, fold: int, now: float | None
) -> float:
    """The mean of the objective over the ends of the finished folds and the current fold.

    TrainingFailedError where one of them is undefined or not finite.
    """
    ends = [history[(one + 1) * config.epochs - 1].metrics[config.metric] for one in range(fold)]
    values = [math.nan if value is None else value for value in (*ends, now)]
    mean = sum(values) / len(values)
    if not math.isfinite(mean):
        raise TrainingFailedError(UNDEFINED)
    return mean
