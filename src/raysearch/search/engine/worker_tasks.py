"""The functions that run in worker processes: a trial, a refit, and a fold with a repeat seed."""

from __future__ import annotations

import gc
import logging
import math
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer, get_device

from raysearch.config.hyperparameters import resolve
from raysearch.errors import SpaceError, UserError, first_line
from raysearch.metrics.classification import METRICS
from raysearch.search.engine.reporter import Reporter, resend_reports, warn
from raysearch.search.engine.worker_messages import (
    TrialFailed,
    TrialRejected,
    TrialTask,
    TuneValues,
    WorkerUnavailable,
    send_message,
    task_from_config,
)
from raysearch.search.journal.events import ModelCosts
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.fold_scores import encode_scores
from raysearch.search.study.trial_data import WORKER_CACHE, train_config
from raysearch.training.checkpoint import unpack_checkpoint
from raysearch.training.cost_measurement import exceeded_limit, net_costs, reset_peak_memory
from raysearch.training.failures import TrainingFailedError
from raysearch.training.loop import (
    TrainedFold,
    TrainingState,
    train,
    train_fold,
    validation_metrics,
)
from raysearch.training.memory import retain_allocator_memory
from raysearch.training.network_weights import pack_network_weights
from raysearch.training.seeds import key
from raysearch.training.train_config import TrainConfig

T = TypeVar("T")
log = logging.getLogger(__name__)
# If a batch is too large for the device, the training runs once more with this many micro-batches.
MICRO_BATCHES = 4
# A worker that cannot reach its data or its storage waits this long before it reports that.
UNAVAILABLE_WAIT_S = 5.0
# A refit runs at most MAX_REFITS times; it runs again if its objective is worse by more than this.
MAX_REFITS, REFIT_TOLERANCE = 3, 0.02
# A stopped trial releases its actor within this time. Tune reads it in the worker.
os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", "60")


def run_trial(config: TuneValues) -> None:
    """Train the trial of a Tune configuration; this is the function that Tune runs.

    It is a Ray Train run in local mode, so that Tune's actor itself is the training worker.
    """
    task = task_from_config(config)
    trainer = TorchTrainer(lambda: _try_trial(task), scaling_config=ScalingConfig(num_workers=0))
    trainer.fit()


def _try_trial(task: TrialTask) -> None:
    """Train a trial; report unusable data or storage, which is no failure of the trial."""
    try:
        train_trial(task)
    except (UserError, OSError) as error:
        log.exception("%s could not be trained on this worker", task.trial)
        time.sleep(UNAVAILABLE_WAIT_S)
        send_message(WorkerUnavailable(f"{socket.gethostname()}: {error}"))


def train_trial(task: TrialTask) -> None:
    """Train a trial from its last checkpoint; report its failure instead of raising it."""
    try:
        _train_from_checkpoint(task)
    except TrainingFailedError as failure:
        send_message(TrialFailed(str(failure)))


def _train_from_checkpoint(task: TrialTask) -> None:
    folder = StudyFolder(task.study)
    torch.set_num_threads(max(1, int(task.cpus)))
    retain_allocator_memory()
    device = get_device()
    plan = WORKER_CACHE.plan(task.study)
    config = _trial_config(task, device)
    fraction = resolve(task.hparams).patient_fraction
    data = WORKER_CACHE.training_data(task.study, task.data, str(device), task.folds, fraction)

    limits = plan.space.limits.by_metric()
    if limits and not task.reported_epochs:
        reason = exceeded_limit(config, data, limits)
        if reason is not None:
            send_message(TrialRejected(reason))
            return

    def train_with(config: TrainConfig) -> None:
        reset_peak_memory(data.device)
        costs = None if task.reported_epochs else ModelCosts(**net_costs(config, data))
        state = load_checkpoint(folder, task.trial)
        if state is not None:
            resend_reports(task.trial, state, task.reported_epochs, costs)
        micro_batch = config.micro_batch_size(config.batch_size) if config.accumulate > 1 else None
        reporter = Reporter(folder, plan, data, task.trial, task.folds, costs, micro_batch)
        train(config, data, reporter, state)

    with _training_failures(task.trial):
        within_memory(config, train_with)


def _trial_config(task: TrialTask, device: torch.device) -> TrainConfig:
    """Return how a trial trains; TrainingFailedError if its hyperparameters are invalid."""
    plan = WORKER_CACHE.plan(task.study)
    with _training_failures(task.trial):
        return train_config(plan, task.hparams, task.seed, device)


@contextmanager
def _training_failures(trial: str) -> Iterator[None]:
    """Raise TrainingFailedError for every error that the training itself causes.

    If the device is lost, the process ends, because it cannot use the device again.
    """
    try:
        yield
    except SpaceError as failure:  # of its hyperparameters
        raise TrainingFailedError(str(failure)) from failure
    except torch.AcceleratorError:
        log.exception("%s lost its device", trial)
        os._exit(1)
    # These errors are the program's and recur; an error of a disk or a network may not.
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        log.exception("%s failed", trial)
        raise TrainingFailedError(f"{type(error).__name__}: {first_line(error)}") from error


def within_memory(config: TrainConfig, train_with: Callable[[TrainConfig], T]) -> T:
    """Call `train_with(config)`; if the device's memory is too small, again with micro-batches.

    Raises:
        TrainingFailedError: If the memory is too small for micro-batches, too.
    """
    try:
        return train_with(config)
    except torch.OutOfMemoryError:
        accumulating = replace(config, accumulate=MICRO_BATCHES)
        num_rows = accumulating.micro_batch_size(config.batch_size)
        log.warning(
            "out of memory: the training restarts with micro-batches of %d rows",
            num_rows,
            exc_info=True,
        )
    # The error referred to the network that filled the memory: it is free only now.
    gc.collect()
    torch.cuda.empty_cache()
    try:
        return train_with(accumulating)
    except torch.OutOfMemoryError:
        log.exception("out of memory with micro-batches")
        raise TrainingFailedError("out-of-memory") from None


def load_checkpoint(folder: StudyFolder, trial: str) -> TrainingState | None:
    """Return the last checkpoint of `trial`; None if there is none, or it is damaged.

    A damaged checkpoint is reported to the study as a warning.
    """
    name = folder.checkpoint(trial)
    if not folder.exists(name):
        return None
    try:
        return unpack_checkpoint(folder.read(name))
    except ValueError as error:
        warn(f"{folder.path(name)}: {error}; the trial starts from its first epoch")
        return None


@dataclass(frozen=True)
class RefitResult:
    """How a refit ended.

    Args:
        objective: Objective of the stored network on some of its training rows; None if undefined.
        num_trainings: Number of networks trained, of which the best is stored.
    """

    objective: float | None
    num_trainings: int


def refit_trial(task: TrialTask, min_objective: float | None = None) -> RefitResult:
    """Train a trial's hyperparameters once more on all patients, and store the weights.

    No patients are left for validation, and the last epoch may be a bad one. Therefore the network
    is scored on some of its training rows. If it is worse there than `min_objective`, which the
    networks of the folds reached on validation patients, it is trained again with another seed, at
    most MAX_REFITS times. The best network is stored.

    Args:
        task: The trial.
        min_objective: The trial's objective in cross-validation; None to accept any network.
    """
    device, config = _prepare(task)
    data = WORKER_CACHE.refit_data(task.study, task.data, str(device))
    sign = 1 if METRICS[config.metric] == "max" else -1
    candidates: list[tuple[float, TrainedFold]] = []
    for attempt in range(MAX_REFITS):
        seed = key(task.seed, "refit", attempt) if attempt else task.seed
        with _training_failures(task.trial):
            trained = within_memory(
                replace(config, seed=seed), lambda config: train_fold(config, data, 0)
            )
        value = validation_metrics(data, trained.val_scores)[config.metric]
        candidates.append((-math.inf if value is None else sign * value, trained))
        if min_objective is None or value is None:
            break
        if sign * (value - min_objective) >= -REFIT_TOLERANCE:
            break
    score, best = max(candidates, key=lambda candidate: candidate[0])
    folder = StudyFolder(task.study)
    weights = pack_network_weights(task.trial, best.net, best.preprocessing)
    folder.write(folder.CHAMPION, weights)
    return RefitResult(sign * score if math.isfinite(score) else None, len(candidates))


def train_repeat_fold(task: TrialTask, fold: int, keep_network: bool) -> None:
    """Train one fold of a trial with the repeat seed of `task`, and store its validation scores.

    Args:
        task: The trial, with the repeat seed as its seed.
        fold: The fold.
        keep_network: Whether the network is stored, too.
    """
    device, config = _prepare(task)
    fraction = resolve(task.hparams).patient_fraction
    data = WORKER_CACHE.training_data(task.study, task.data, str(device), task.folds, fraction)
    with _training_failures(task.trial):
        trained = within_memory(config, lambda config: train_fold(config, data, fold))
    folder = StudyFolder(task.study)
    if keep_network:
        weights = pack_network_weights(
            task.trial, trained.net, trained.preprocessing, task.seed, fold
        )
        folder.write(folder.repeat_network(task.trial, task.seed, fold), weights)
    scores = encode_scores(fold, config.epochs * (fold + 1), trained.val_scores, data)
    folder.write(folder.repeat_scores(task.trial, task.seed, fold), scores)


def _prepare(task: TrialTask) -> tuple[torch.device, TrainConfig]:
    """Prepare this process for a task outside Tune: its device, and how the task trains on it."""
    device = prepare_process(task.cpus)
    return device, _trial_config(task, device)


def prepare_process(cpus: float) -> torch.device:
    """Set the threads and the allocator of a worker outside Tune; return its device."""
    torch.set_num_threads(max(1, int(cpus)))
    retain_allocator_memory()
    return get_local_device()


def get_local_device() -> torch.device:
    """Return the device of a worker outside Tune."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
