"""The function that runs in the worker process of a trial, and what prepares a worker process."""

from __future__ import annotations

import gc
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import ray
import torch
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer, get_device

from raysearch.config.code_importer import CODE_IMPORTER
from raysearch.config.hyperparameters import resolve
from raysearch.config.names import FROZEN
from raysearch.data.disk_errors import error_text
from raysearch.errors import SpaceError, UserError, first_line
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
from raysearch.search.study.trial_data import WORKER_CACHE, train_config
from raysearch.training.checkpoint import unpack_checkpoint
from raysearch.training.cost_measurement import exceeded_limit, net_costs, reset_peak_memory
from raysearch.training.failures import OUT_OF_MEMORY, TrainingFailedError
from raysearch.training.loop import (
    TrainingState,
    train,
)
from raysearch.training.memory import is_out_of_memory, retain_allocator_memory
from raysearch.training.train_config import TrainConfig

T = TypeVar("T")
log = logging.getLogger(__name__)
# What is raised if memory is too small; a RuntimeError may mean something else.
MEMORY_ERRORS = (MemoryError, RuntimeError)
# If a batch is too large for the device, the training runs once more with this many micro-batches.
MICRO_BATCHES = 4
# A worker that cannot reach its data or its storage waits this long before it reports that.
UNAVAILABLE_WAIT_S = 5.0
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
        send_message(WorkerUnavailable(f"{socket.gethostname()}: {error_text(error)}"))


def train_trial(task: TrialTask) -> None:
    """Train a trial from its last checkpoint; report its failure instead of raising it."""
    try:
        _train_from_checkpoint(task)
    except TrainingFailedError as failure:
        send_message(TrialFailed(str(failure)))
    except MemoryError:  # while its data were read
        log.exception("%s is out of memory", task.trial)
        send_message(TrialFailed(OUT_OF_MEMORY))


def _train_from_checkpoint(task: TrialTask) -> None:
    folder = StudyFolder(task.study)
    torch.set_num_threads(max(1, int(task.cpus)))
    retain_allocator_memory()
    device = get_device()
    plan = WORKER_CACHE.plan(task.study)
    config = trial_config(task, device)
    fraction = resolve(task.hparams).patient_fraction
    data = WORKER_CACHE.training_data(task.study, task.data, str(device), task.folds, fraction)

    limits = plan.space.limits.by_metric()
    if limits and not task.reported_epochs:
        with training_failures(task.trial):
            reason = exceeded_limit(config, data, limits)
        if reason is not None:
            send_message(TrialRejected(reason))
            return

    def train_with(config: TrainConfig) -> None:
        reset_peak_memory(data.device)
        costs = None if task.reported_epochs else ModelCosts(**net_costs(config, data))
        state = load_checkpoint(folder, task.trial)
        if state is not None:
            resend_reports(task, state, costs)
            costs = None
        score_hashes = {**task.score_hashes, **(state.score_hashes if state else {})}
        micro_batch = config.micro_batch_size(config.batch_size) if config.accumulate > 1 else None
        reporter = Reporter(
            folder,
            plan,
            data,
            task.trial,
            task.folds,
            config.epochs,
            costs,
            micro_batch,
            score_hashes,
        )
        train(config, data, reporter, state)

    with training_failures(task.trial):
        within_memory(config, train_with)


def trial_config(task: TrialTask, device: torch.device) -> TrainConfig:
    """Return how a trial trains; TrainingFailedError if its hyperparameters are invalid."""
    plan = WORKER_CACHE.plan(task.study)
    plan.code.allow(task.code_hash)
    with training_failures(task.trial):
        resolve(task.hparams)
    return train_config(plan, task.hparams, task.seed, device)


@contextmanager
def training_failures(trial: str) -> Iterator[None]:
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
    except (*MEMORY_ERRORS, ArithmeticError, LookupError, TypeError, ValueError) as error:
        log.exception("%s failed", trial)
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise TrainingFailedError(OUT_OF_MEMORY if is_out_of_memory(error) else reason) from error
    except (Exception, SystemExit) as error:
        if not CODE_IMPORTER.has_raised(error):
            raise
        log.exception("%s failed in code of the user's", trial)
        raise TrainingFailedError(f"{type(error).__name__}: {first_line(error)}") from error


def within_memory(config: TrainConfig, train_with: Callable[[TrainConfig], T]) -> T:
    """Call `train_with(config)`; if the memory is too small, again with micro-batches.

    Raises:
        TrainingFailedError: If the memory is too small for micro-batches, too.
    """
    try:
        return train_with(config)
    except MEMORY_ERRORS as error:
        # A classifier of frozen features has no micro-batches.
        if not is_out_of_memory(error) or config.params.adaptation == FROZEN:
            raise
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
    except MEMORY_ERRORS as error:
        if not is_out_of_memory(error):
            raise
        log.exception("out of memory with micro-batches")
        raise TrainingFailedError(OUT_OF_MEMORY) from None


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


def prepare_process(cpus: float) -> torch.device:
    """Set the threads and the allocator of a worker outside Tune; return its device."""
    torch.set_num_threads(max(1, int(cpus)))
    retain_allocator_memory()
    return get_local_device()


def get_local_device() -> torch.device:
    """Return the device of a worker outside Tune: a GPU only if Ray has assigned one.

    Ray 2.60 hides the GPUs of a machine only from workers that have some of them.
    """
    has_gpu = torch.cuda.is_available() and (not ray.is_initialized() or bool(ray.get_gpu_ids()))
    return torch.device("cuda" if has_gpu else "cpu")
