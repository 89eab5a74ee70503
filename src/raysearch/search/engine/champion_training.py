"""Trains a finished trial again on workers: its refit on all patients, and its repeats."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from raysearch.config.space import Resources
from raysearch.errors import UserError
from raysearch.search.engine.actor_task import RemoteFunction
from raysearch.search.engine.nodes import Node, Slot
from raysearch.search.engine.worker_messages import TrialTask, trial_task
from raysearch.search.engine.worker_pool import WorkerPool
from raysearch.search.engine.worker_tasks import RefitResult, refit_trial, train_repeat_fold
from raysearch.search.journal.history import Trial
from raysearch.search.study.repeats import FoldRepeat, missing_folds
from raysearch.search.study.study import Study
from raysearch.training.failures import TrainingFailedError

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]


def refit(study: Study, trial: Trial) -> None:
    """Train `trial` once more on all patients, on the node with the most cores.

    Raises:
        TrainingFailedError: If the training fails with these hyperparameters.
        WorkerLostError: If its worker is lost too often.
    """
    resources = study.plan.space.resources
    task = trial_task(study, trial)

    def arguments(_trial: str, slot: Slot) -> tuple[TrialTask, float | None]:
        return replace(task, cpus=slot.resources.cpus), trial.objective

    def largest_node(nodes: Sequence[Node]) -> list[Slot]:
        """Return one slot that takes all cores of the largest node: no trial runs beside it."""
        node = max(nodes, key=lambda node: node.cpus)
        return [Slot(node.id, Resources(max(node.cpus, resources.cpus), resources.gpus))]

    pool = WorkerPool(
        RemoteFunction[str, RefitResult](
            lambda: refit_trial, arguments, lambda name: f"the refit of {name}"
        ),
        resources,
        slots=largest_node,
    )
    for finished in pool.run([trial.id]):
        _warn_of_refits(study, trial, finished.result())


def _warn_of_refits(study: Study, trial: Trial, result: RefitResult) -> None:
    if result.num_trainings > 1:
        study.warn(
            trial.id,
            f"its refit reaches {_value_text(result.objective)} on training rows, the best of"
            f" {result.num_trainings} seeds: the first seed reached less there than the folds'"
            f" networks on validation rows ({_value_text(trial.objective)})",
        )


def _value_text(value: float | None) -> str:
    return "an undefined objective" if value is None else f"{value:.4f}"


def train_repeats(
    study: Study,
    trial: Trial,
    seeds: Sequence[int],
    progress: Progress = lambda _num_done, _num_folds: None,
    *,
    networks: bool,
) -> None:
    """Train the folds of `trial` with each repeat seed whose results are not stored yet.

    The validation scores are stored. If a fold fails with a seed, the journal records that, and no
    fold is trained with that seed.

    Args:
        study: The study.
        trial: The trial.
        seeds: The repeat seeds.
        progress: Called with the number of finished folds and of all folds.
        networks: Whether the networks are stored, too.

    Raises:
        WorkerLostError: If a fold loses its worker, or its worker cannot reach its data, too often.
    """
    open_seeds = [seed for seed in seeds if (trial.id, seed) not in study.history.repeat_failures]
    missing = missing_folds(study.folder, study.plan, trial, open_seeds, networks=networks)
    if not missing:
        return
    task = trial_task(study, trial)
    num_folds = len(open_seeds) * trial.folds

    def arguments(repeat: FoldRepeat, _slot: Slot) -> tuple[TrialTask, int, bool]:
        return replace(task, seed=repeat.seed), repeat.fold, networks

    pool = WorkerPool(
        RemoteFunction[FoldRepeat, None](
            lambda: train_repeat_fold,
            arguments,
            lambda repeat: f"fold {repeat.fold} of {trial.id} with the seed {repeat.seed}",
            retry_on=(UserError, OSError),
        ),
        study.plan.space.resources,
        on_progress=lambda num_unfinished: progress(num_folds - num_unfinished, num_folds),
    )
    for finished in pool.run(missing):
        if isinstance(finished.error, TrainingFailedError):
            seed = finished.input.seed
            log.warning("%s failed with the seed %d: %s", trial.id, seed, finished.error)
            study.record_repeat_failure(trial, seed, str(finished.error))
            pool.cancel(partial(_has_seed, seed))
        else:
            finished.result()


def _has_seed(seed: int, repeat: FoldRepeat) -> bool:
    return repeat.seed == seed
