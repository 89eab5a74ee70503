"""The functions that run in worker processes for the champion: a refit, and a fold of a repeat.

Each writes a checkpoint after an epoch, from which the same task continues after an interruption.
The networks are then those of an uninterrupted training, to the last bit.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from raysearch.config.hyperparameters import resolve
from raysearch.data.disk_errors import error_text
from raysearch.data.step_progress import EPOCHS, StepCallback, StepProgress
from raysearch.errors import DataError, StorageError
from raysearch.metrics.objective import objective_sign
from raysearch.models import row_unit
from raysearch.search.engine.task_progress import ProgressSender
from raysearch.search.engine.worker_messages import TrialTask
from raysearch.search.engine.worker_tasks import (
    prepare_process,
    training_failures,
    trial_config,
    within_memory,
)
from raysearch.search.journal.events import RepeatTrained
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.fold_scores import encode_scores
from raysearch.search.study.frozen_encoders import separate_encoder_file
from raysearch.search.study.trial_data import WORKER_CACHE
from raysearch.training.checkpoint import (
    pack_fold_checkpoint,
    pack_scored_weights,
    unpack_fold_checkpoint,
    unpack_scored_weights,
)
from raysearch.training.loop import (
    FoldListener,
    FoldState,
    TrainedFold,
    train_fold,
    validation_metrics,
)
from raysearch.training.network_weights import pack_network_weights
from raysearch.training.seeds import key
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

log = logging.getLogger(__name__)
# A refit runs at most MAX_REFITS times; it runs again if its objective is worse by more than this.
MAX_REFITS, REFIT_TOLERANCE = 3, 0.02
# More frequent checkpoints would cost short epochs more time than they save.
CHECKPOINT_INTERVAL_S = 10.0


@dataclass(frozen=True)
class RefitResult:
    """How a refit ended.

    Args:
        objective: Objective of the stored network on some of its training rows; None if undefined.
        num_trainings: Number of networks trained, of which the best is stored.
        network: SHA-256 of the file of the stored network.
    """

    objective: float | None
    num_trainings: int
    network: str


class FoldCheckpoints(FoldListener):
    """Writes the checkpoints of the training of one fold, and sends its progress.

    Args:
        folder: The study's folder.
        name: The file of the checkpoint.
        training: Identifies the training.
        epochs: The number of its epochs.
        step: What is trained, for the progress.
        on_progress: Called with the progress.
        unit: What a row is: `PATCHES` or `SLIDES`.
    """

    def __init__(
        self,
        folder: StudyFolder,
        name: str,
        training: str,
        epochs: int,
        step: str,
        on_progress: StepCallback,
        unit: str,
    ) -> None:
        self._folder, self._name, self._training = folder, name, training
        self._epochs, self._step, self._on_progress = epochs, step, on_progress
        self._unit = unit
        self._written_s = time.monotonic()

    def state(self) -> FoldState | None:
        """Return the last checkpoint; None if there is none that can be used."""
        if not self._folder.exists(self._name):
            return None
        try:
            return unpack_fold_checkpoint(self._folder.read(self._name), self._training)
        except (OSError, DataError, ValueError) as error:
            path = self._folder.path(self._name)
            log.warning("%s: %s; the training starts from its first epoch", path, error)
            return None

    def on_batch(self, epochs: float) -> None:
        """Send the number of epochs."""
        self._on_progress(StepProgress(self._step, epochs, self._epochs, EPOCHS))

    def on_epoch(self, epochs: int, state: Callable[[], FoldState]) -> None:
        """Write a checkpoint if the last one is old, or the validation of the fold follows."""
        is_due = time.monotonic() - self._written_s >= CHECKPOINT_INTERVAL_S
        if is_due or epochs == self._epochs:
            content = pack_fold_checkpoint(state(), self._training)
            _write_state(self._folder, self._name, content)
            self._written_s = time.monotonic()

    def on_validation(self, num_done: int, num_rows: int) -> None:
        """Send the number of validated rows."""
        step = f"{self._step}: scoring"
        self._on_progress(StepProgress(step, num_done, num_rows, self._unit))


def refit_trial(
    task: TrialTask, min_objective: float | None = None, progress_key: str = ""
) -> RefitResult:
    """Train a trial's hyperparameters once more on all patients, and store the weights.

    No patients are left for validation, and the last epoch may be a bad one. Therefore the network
    is scored on some of its training rows. If it is worse there than `min_objective`, which the
    networks of the folds reached on validation patients, it is trained again with another seed, at
    most MAX_REFITS times. The best network is stored.

    Args:
        task: The trial.
        min_objective: The trial's objective in cross-validation; None to accept any network.
        progress_key: The name under which the progress is sent.
    """
    device, config = prepare_task(task)
    data = WORKER_CACHE.refit_data(task.study, task.data, str(device))
    sign = objective_sign(WORKER_CACHE.plan(task.study).space.mode)
    folder, candidates = StudyFolder(task.study), list[tuple[float, bytes]]()
    for attempt in range(MAX_REFITS):
        seed = key(task.seed, "refit", attempt) if attempt else task.seed
        refit = _RefitAttempt(task, replace(config, seed=seed), attempt, progress_key)
        value, weights = refit.stored() or refit.train(data)
        candidates.append((-math.inf if value is None else sign * value, weights))
        if min_objective is None or value is None:
            break
        if sign * (value - min_objective) >= -REFIT_TOLERANCE:
            break
        refit.store(value, weights)
    score, best = max(candidates, key=lambda candidate: candidate[0])
    network = folder.write_hashed(folder.CHAMPION, best)
    return RefitResult(sign * score if math.isfinite(score) else None, len(candidates), network)


class _RefitAttempt:
    """One training of a refit, with its own seed.

    Args:
        task: The trial.
        config: How it is trained.
        attempt: The number of the attempt, from 0.
        progress_key: The name under which the progress is sent.
    """

    def __init__(
        self, task: TrialTask, config: TrainConfig, attempt: int, progress_key: str
    ) -> None:
        self._task, self._config, self._attempt = task, config, attempt
        self._folder = StudyFolder(task.study)
        self._training = _training_name(task, config, "refit")
        self._send = ProgressSender(progress_key)

    def train(self, data: TrainingData) -> tuple[float | None, bytes]:
        """Train; return the objective on some of the training rows, and the packed weights."""
        step = f"refitting {self._task.trial} on all patients"
        step += f" with seed {self._attempt + 1} of at most {MAX_REFITS}" if self._attempt else ""
        checkpoints = FoldCheckpoints(
            self._folder,
            self._folder.refit_checkpoint(self._task.trial, self._attempt),
            self._training,
            self._config.epochs,
            step,
            self._send,
            row_unit(data.shape),
        )
        trained = _train_fold(self._task, self._config, data, 0, checkpoints)
        value = validation_metrics(self._config, data, trained.val_scores)[self._config.metric]
        weights = pack_network_weights(
            self._task.trial,
            trained.net,
            trained.preprocessing,
            without_encoder=_is_without_encoder(self._task),
        )
        return value, weights

    def stored(self) -> tuple[float, bytes] | None:
        """Return what an interrupted refit stored of this attempt; None if it stored nothing."""
        if not self._folder.exists(self._result_name):
            return None
        try:
            return unpack_scored_weights(self._folder.read(self._result_name), self._training)
        except (OSError, DataError, ValueError) as error:
            log.warning("%s: %s", self._folder.path(self._result_name), error)
            return None

    def store(self, value: float, weights: bytes) -> None:
        """Store the result of this attempt, because another one follows."""
        content = pack_scored_weights(value, weights, self._training)
        _write_state(self._folder, self._result_name, content)

    @property
    def _result_name(self) -> str:
        return self._folder.refit_result(self._task.trial, self._attempt)


def train_repeat_fold(
    task: TrialTask, fold: int, keep_network: bool, progress_key: str = ""
) -> RepeatTrained:
    """Train one fold of a trial with the repeat seed of `task`, and store its validation scores.

    Args:
        task: The trial, with the repeat seed as its seed.
        fold: The fold.
        keep_network: Whether the network is stored, too.
        progress_key: The name under which the progress is sent.

    Returns:
        The hashes of the stored files, for the journal.
    """
    device, config = prepare_task(task)
    fraction = resolve(task.hparams).patient_fraction
    data = WORKER_CACHE.training_data(task.study, task.data, str(device), task.folds, fraction)
    folder, network = StudyFolder(task.study), None
    checkpoints = FoldCheckpoints(
        folder,
        folder.repeat_checkpoint(task.trial, task.seed, fold),
        _training_name(task, config, str(fold)),
        config.epochs,
        f"fold {fold}",
        ProgressSender(progress_key),
        row_unit(data.shape),
    )
    trained = _train_fold(task, config, data, fold, checkpoints)
    if keep_network:
        weights = pack_network_weights(
            task.trial,
            trained.net,
            trained.preprocessing,
            task.seed,
            fold,
            without_encoder=_is_without_encoder(task),
        )
        network = folder.write_hashed(folder.repeat_network(task.trial, task.seed, fold), weights)
    content = encode_scores(fold, config.epochs * (fold + 1), trained.val_scores, data)
    scores = folder.write_hashed(folder.repeat_scores(task.trial, task.seed, fold), content)
    return RepeatTrained(task.trial, task.seed, fold, scores, network)


def _is_without_encoder(task: TrialTask) -> bool:
    """Return whether the weights of a frozen encoder are left out of those that are stored."""
    return separate_encoder_file(WORKER_CACHE.plan(task.study), task.hparams) is not None


def _write_state(folder: StudyFolder, name: str, state: bytes) -> None:
    """Write a state from which a task continues; if it cannot be written, log a warning."""
    try:
        folder.write_state(name, state)
    except (OSError, StorageError) as error:
        log.warning(
            "%s: cannot be written (%s); an interrupted training starts from an earlier state",
            folder.path(name),
            error_text(error),
        )


def _train_fold(
    task: TrialTask,
    config: TrainConfig,
    data: TrainingData,
    fold: int,
    checkpoints: FoldCheckpoints,
) -> TrainedFold:
    """Train a fold from its checkpoint, with micro-batches if the checkpoint has them."""

    def train_with(config: TrainConfig) -> TrainedFold:
        return train_fold(config, data, fold, checkpoints, checkpoints.state())

    with training_failures(task.trial):
        state = checkpoints.state()
        if state is not None and state.accumulate != config.accumulate:
            return train_with(replace(config, accumulate=state.accumulate))
        return within_memory(config, train_with)


def _training_name(task: TrialTask, config: TrainConfig, fold: str) -> str:
    """Return what identifies a training: its study, trial, seed and fold."""
    return f"{WORKER_CACHE.plan(task.study).identity} {task.trial} {config.seed} {fold}"


def prepare_task(task: TrialTask) -> tuple[torch.device, TrainConfig]:
    """Prepare this process for a task outside Tune: its device, and how the task trains on it."""
    device = prepare_process(task.cpus)
    return device, trial_config(task, device)
