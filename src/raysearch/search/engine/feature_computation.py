"""Computes the frozen features that the trials of a study read, before its search."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch

from raysearch.config.hyperparameter_spec import Value
from raysearch.config.hyperparameters import resolve
from raysearch.config.run_location import cluster_address
from raysearch.data.files import Folder
from raysearch.data.step_progress import StepCallback, StepProgress, ignore_progress
from raysearch.errors import StorageError, first_line
from raysearch.metrics.row_units import PATCHES
from raysearch.search.engine.actor_task import RemoteFunction
from raysearch.search.engine.champion_tasks import prepare_task
from raysearch.search.engine.nodes import Slot, all_nodes, num_slots
from raysearch.search.engine.task_progress import ProgressSender, read_progress, remove_progress
from raysearch.search.engine.worker_messages import TrialTask
from raysearch.search.engine.worker_pool import WorkerPool
from raysearch.search.sampling.sampled_configurations import feature_kinds
from raysearch.search.study.plan import Plan
from raysearch.search.study.study import Study
from raysearch.search.study.trial_data import WORKER_CACHE, train_config
from raysearch.training.failures import TrainingFailedError
from raysearch.training.features.feature_request import feature_requests
from raysearch.training.features.feature_store import are_stored, load_features
from raysearch.training.features.shared_chunks import SharedChunks

log = logging.getLogger(__name__)
# If a space has more kinds of features, such as those of a range of input sizes, each is computed
# by the first trial that reads it.
MAX_KINDS = 16


@dataclass(frozen=True)
class FeaturePart:
    """The part that one worker has in computing the features of a study.

    Attributes:
        worker: The number of the worker, from 0.
        num_workers: The number of workers.
        shared: The address of the folder through which machines exchange features; empty if there
            is only this machine.
    """

    worker: int
    num_workers: int
    shared: str

    def shared_chunks(self) -> SharedChunks | None:
        """Return the chunks that the machines exchange; None if there is only this machine."""
        if not self.shared:
            return None
        return SharedChunks(Folder(self.shared), self.worker, self.num_workers)


def compute_features(study: Study, on_progress: StepCallback = ignore_progress) -> None:
    """Compute the frozen features that trials of `study` will read, by as many workers as trials.

    They share the work, and a machine has all features when its worker has ended. Nothing runs if
    this is the only machine, and has them.

    Args:
        study: The study.
        on_progress: Called with the number of patches.

    Raises:
        DataError: If weights cannot be read, or features cannot be stored.
        SpaceError: If weights do not match their architecture.
        WorkerLostError: If a worker is lost too often.
    """
    plan = study.plan
    kinds = feature_kinds(plan.space)
    if cluster_address() is None and not plan.space.resources.gpus:
        kinds = [kind for kind in kinds if not _are_stored(study, kind)]
    if not kinds or len(kinds) > MAX_KINDS:
        return
    num_workers = max(1, num_slots(plan.space.resources))
    folder = study.folder
    is_shared = cluster_address() is not None and len(all_nodes()) > 1
    shared = f"{folder.address}/{folder.FEATURES}" if is_shared else ""
    parts = [FeaturePart(worker, num_workers, shared) for worker in range(num_workers)]
    progress = _Progress(plan, kinds, parts, on_progress)

    def arguments(part: FeaturePart, slot: Slot) -> tuple[list[TrialTask], str, FeaturePart]:
        tasks = [_task(study, kind, slot.resources.cpus) for kind in kinds]
        return tasks, progress.key(part), part

    names = ", ".join(dict.fromkeys(map(_name, kinds)))
    pool = WorkerPool(
        RemoteFunction[FeaturePart, list[str]](
            lambda: compute_stored_features, arguments, lambda _part: f"the features of {names}"
        ),
        plan.space.resources,
        on_poll=progress.poll,
    )
    failures: dict[str, None] = {}
    for finished in pool.run(parts):
        failures |= dict.fromkeys(finished.result())
        progress.finish(finished.input)
    for failure in failures:
        # The trials that would read them fail with that reason; the others go on.
        log.warning("%s", failure)


def remove_shared_features(study: Study) -> None:
    """Remove the features that machines have exchanged; an error is logged."""
    try:
        study.folder.remove(study.folder.FEATURES)
    except (OSError, StorageError) as error:
        log.warning("%s", first_line(error))


def compute_stored_features(
    tasks: list[TrialTask], progress_key: str, part: FeaturePart
) -> list[str]:
    """Compute the features of each kind that are not stored on this machine.

    Args:
        tasks: A configuration of each kind, as a trial that nobody trains.
        progress_key: The name under which the progress is sent.
        part: The part of this worker.

    Returns:
        Why features of a kind cannot be computed, such as values that are not finite.
    """
    failures = []
    for number, task in enumerate(tasks):
        try:
            _compute_kind(task, (number, len(tasks)), ProgressSender(progress_key), part)
        except TrainingFailedError as error:
            failures.append(str(error))
    return failures


def _compute_kind(
    task: TrialTask, kind: tuple[int, int], send: ProgressSender, part: FeaturePart
) -> None:
    """Compute the features of a kind: its number, from 0, and that of all kinds."""
    number, num_kinds = kind
    device, config = prepare_task(task)
    data = WORKER_CACHE.training_data(task.study, task.data, str(device), task.folds, 1.0)
    num_before, num_patches = 0, sum(map(len, (data.labels, *(r.labels for r in data.auxiliary))))
    for request in feature_requests(config, data):

        def on_rows(num_done: int, _num_rows: int, first: int = num_before) -> None:
            total_done = number * num_patches + first + num_done
            total = num_kinds * num_patches
            send(StepProgress(config.architecture, total_done, total, PATCHES))

        load_features(request, on_rows, part.shared_chunks())
        num_before += len(request.pixels)


def _task(study: Study, hparams: dict[str, Value], cpus: float) -> TrialTask:
    folds = min(split.folds for split in study.plan.splits)
    name = f"features of {_name(hparams)}"
    return TrialTask(
        study=study.folder.address,
        data=study.plan.data,
        trial=name,
        hparams=hparams,
        seed=0,
        folds=folds,
        reported_epochs=0,
        cpus=cpus,
        code_hash=study.plan.code.sha256,
    )


def _are_stored(study: Study, hparams: dict[str, Value]) -> bool:
    """Return whether the features of a configuration are stored on this machine, for its CPUs."""
    task = _task(study, hparams, 1.0)
    config = train_config(study.plan, hparams, 0, torch.device("cpu"))
    data = WORKER_CACHE.training_data(task.study, task.data, "cpu", task.folds, 1.0)
    return all(map(are_stored, feature_requests(config, data)))


def _name(hparams: dict[str, Value]) -> str:
    return resolve(hparams).architecture


class _Progress:
    """The progress over all kinds of features, by what the workers send.

    Args:
        plan: The plan of the study.
        kinds: The kinds of features.
        parts: The parts of all workers.
        on_progress: Called with the number of patches.
    """

    def __init__(
        self,
        plan: Plan,
        kinds: list[dict[str, Value]],
        parts: list[FeaturePart],
        on_progress: StepCallback,
    ) -> None:
        self._name, self._kinds, self._parts = plan.identity, kinds, parts
        self._on_progress = on_progress
        num_patches = sum(plan.class_counts) + sum(shards.rows for shards in plan.auxiliary)
        self._num_patches = len(kinds) * num_patches
        self._shown = 0.0
        self._finished: set[FeaturePart] = set()
        for part in parts:
            remove_progress(self.key(part))

    def key(self, part: FeaturePart) -> str:
        """Return the name under which a worker sends its progress."""
        return f"{self._name} features {part.worker}"

    def finish(self, part: FeaturePart) -> None:
        """Count the part of a worker as finished."""
        self._finished.add(part)

    def poll(self) -> None:
        """Read how far the workers are; of several machines, the last one counts."""
        numbers = []
        for part in self._parts:
            progress = None if part in self._finished else read_progress(self.key(part))
            if part in self._finished:
                numbers.append(float(self._num_patches))
            elif progress is not None:
                numbers.append(progress.done)
        self._shown = max(self._shown, min(numbers, default=0.0))
        names = ", ".join(dict.fromkeys(map(_name, self._kinds)))
        step = f"computing features of {names}"
        self._on_progress(StepProgress(step, self._shown, self._num_patches, PATCHES))
