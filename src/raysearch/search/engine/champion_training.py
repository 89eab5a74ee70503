"""Trains a finished trial again on workers: its refit on all patients, and its repeats."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from raysearch.config.report_interval import trial_epochs
from raysearch.config.space import Resources
from raysearch.data.step_progress import EPOCHS, StepCallback, StepProgress, ignore_progress
from raysearch.errors import UserError
from raysearch.search.engine.actor_task import RemoteFunction
from raysearch.search.engine.champion_tasks import RefitResult, refit_trial, train_repeat_fold
from raysearch.search.engine.nodes import Node, Slot
from raysearch.search.engine.task_progress import read_progress, remove_progress
from raysearch.search.engine.worker_messages import TrialTask, trial_task
from raysearch.search.engine.worker_pool import WorkerPool
from raysearch.search.journal.events import RepeatTrained
from raysearch.search.journal.history import Trial
from raysearch.search.study.repeats import FoldRepeat, missing_folds
from raysearch.search.study.study import Study
from raysearch.training.failures import TrainingFailedError

log = logging.getLogger(__name__)


def refit(study: Study, trial: Trial, on_progress: StepCallback = ignore_progress) -> None:
    """Train `trial` once more on all patients, on the node with the most cores.

    A refit that was interrupted continues from its last checkpoint.

    Args:
        study: The study.
        trial: The trial.
        on_progress: Called with the number of epochs.

    Raises:
        TrainingFailedError: If the training fails with these hyperparameters.
        WorkerLostError: If its worker is lost too often.
    """
    resources = study.plan.space.resources
    task = trial_task(study, trial)
    progress_key = f"{study.plan.identity} {trial.id}"

    def arguments(_trial: str, slot: Slot) -> tuple[TrialTask, float | None, str]:
        return replace(task, cpus=slot.resources.cpus), trial.objective, progress_key

    def poll() -> None:
        progress = read_progress(progress_key)
        if progress is not None:
            on_progress(progress)

    pool = WorkerPool(
        RemoteFunction[str, RefitResult](
            lambda: refit_trial, arguments, lambda name: f"the refit of {name}"
        ),
        resources,
        slots=lambda nodes: largest_node_slot(nodes, resources),
        on_poll=poll,
    )
    remove_progress(progress_key)  # of an earlier process with the same cluster
    for finished in pool.run([trial.id]):
        if isinstance(finished.error, TrainingFailedError):
            study.folder.remove_unfinished(f"{trial.id}-refit-")
        result = finished.result()
        study.record_refit(trial, result.network)
        study.folder.remove_unfinished(f"{trial.id}-refit-")
        _warn_of_refits(study, trial, result)


def largest_node_slot(nodes: Sequence[Node], resources: Resources) -> list[Slot]:
    """Return one slot with all cores of the largest node, as no trial runs beside a refit.

    The list is empty without nodes, as after the last one began to drain.
    """
    if not nodes:
        return []
    node = max(nodes, key=lambda node: node.cpus)
    return [Slot(node.id, Resources(max(node.cpus, resources.cpus), resources.gpus))]


def _warn_of_refits(study: Study, trial: Trial, result: RefitResult) -> None:
    if result.num_trainings > 1:
        study.warn(
            trial.id,
            f"its refit reaches {_value_text(result.objective)} on training rows, the best of"
            f" {result.num_trainings} seeds: the first seed was worse there than the folds'"
            f" networks on validation rows ({_value_text(trial.objective)})",
        )


def _value_text(value: float | None) -> str:
    return "an undefined objective" if value is None else f"{value:.4f}"


class _RepeatProgress:
    """The progress of all repeats of a trial, by what the workers of its folds send.

    Args:
        study: The study.
        trial: The trial.
        seeds: The repeat seeds that are trained or stored.
        missing: The folds to train.
        on_progress: Called with the number of epochs of all folds.
    """

    def __init__(
        self,
        study: Study,
        trial: Trial,
        seeds: Sequence[int],
        missing: Sequence[FoldRepeat],
        on_progress: StepCallback,
    ) -> None:
        self._name = f"{study.plan.identity} {trial.id}"
        self._step = f"repeating {trial.id} with new seeds"
        self._epochs_per_fold = trial_epochs(study.plan.space, trial.hparams)
        self._unit = study.plan.unit
        self._num_folds = len(seeds) * trial.folds
        self._on_progress = on_progress
        self._unfinished = set(missing)
        for repeat in missing:
            remove_progress(self.key(repeat))

    def key(self, repeat: FoldRepeat) -> str:
        """Return the name under which the worker of a fold sends its progress."""
        return f"{self._name} {repeat.seed} {repeat.fold}"

    def finish(self, is_finished: Callable[[FoldRepeat], bool]) -> None:
        """Count folds as finished."""
        self._unfinished -= {fold for fold in self._unfinished if is_finished(fold)}

    def poll(self) -> None:
        """Read how far the workers are; while all of them score, show the scored rows."""
        sent = [read_progress(self.key(repeat)) for repeat in self._unfinished]
        running = [progress for progress in sent if progress is not None]
        scoring = [progress for progress in running if progress.unit == self._unit]
        if scoring and len(scoring) == len(self._unfinished):
            num_done, num_rows = (
                sum(progress.done for progress in scoring),
                sum(progress.total for progress in scoring),
            )
            step = f"{self._step}: scoring"
            self._on_progress(StepProgress(step, num_done, num_rows, self._unit))
            return
        num_epochs = self._epochs_per_fold * (self._num_folds - len(self._unfinished))
        num_epochs += self._epochs_per_fold * len(scoring)
        training = sum(progress.done for progress in running if progress.unit == EPOCHS)
        total = self._num_folds * self._epochs_per_fold
        self._on_progress(StepProgress(self._step, num_epochs + training, total, EPOCHS))


def train_repeats(
    study: Study,
    trial: Trial,
    seeds: Sequence[int],
    on_progress: StepCallback = ignore_progress,
    *,
    networks: bool,
) -> None:
    """Train the folds of `trial` with each repeat seed whose results are not stored yet.

    The validation scores are stored. If a fold fails with a seed, the journal records that, and no
    fold is trained with that seed. A fold that was interrupted continues from its last checkpoint.

    Args:
        study: The study.
        trial: The trial.
        seeds: The repeat seeds.
        on_progress: Called with the number of epochs of all folds.
        networks: Whether the networks are stored, too.

    Raises:
        WorkerLostError: If a fold loses its worker, or its worker cannot reach its data, too often.
    """
    open_seeds = [seed for seed in seeds if (trial.id, seed) not in study.history.repeat_failures]
    missing = missing_folds(study.folder, study.plan, trial, open_seeds, networks=networks)
    if not missing:
        return
    task = trial_task(study, trial)
    progress = _RepeatProgress(study, trial, open_seeds, missing, on_progress)

    def arguments(repeat: FoldRepeat, _slot: Slot) -> tuple[TrialTask, int, bool, str]:
        return replace(task, seed=repeat.seed), repeat.fold, networks, progress.key(repeat)

    pool = WorkerPool(
        RemoteFunction[FoldRepeat, RepeatTrained](
            lambda: train_repeat_fold,
            arguments,
            lambda repeat: f"fold {repeat.fold} of {trial.id} with the seed {repeat.seed}",
            retry_on=(UserError, OSError),
        ),
        study.plan.space.resources,
        on_poll=progress.poll,
    )
    for finished in pool.run(missing):
        seed = finished.input.seed
        if isinstance(finished.error, TrainingFailedError):
            log.warning("%s failed with the seed %d: %s", trial.id, seed, finished.error)
            study.record_repeat_failure(trial, seed, str(finished.error))
            pool.cancel(partial(_has_seed, seed))
            progress.finish(partial(_has_seed, seed))
            study.folder.remove_unfinished(f"{trial.id}-{seed}-")
        else:
            study.record_repeat(trial, finished.result())
            progress.finish(partial(_is_repeat, finished.input))
            study.folder.remove(study.folder.repeat_checkpoint(trial.id, seed, finished.input.fold))


def _has_seed(seed: int, repeat: FoldRepeat) -> bool:
    return repeat.seed == seed


def _is_repeat(finished: FoldRepeat, repeat: FoldRepeat) -> bool:
    return repeat == finished
