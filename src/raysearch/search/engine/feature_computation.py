"""Computes the frozen features that the trials of a study read, before its search."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch

from raysearch.config.hyperparameter_spec import Value
from raysearch.config.hyperparameters import resolve
from raysearch.data.files import Folder
from raysearch.data.step_progress import StepCallback, StepProgress, ignore_progress
from raysearch.metrics.row_units import PATCHES
from raysearch.search.engine.actor_task import RemoteFunction
from raysearch.search.engine.champion_tasks import prepare_task
from raysearch.search.engine.nodes import Slot, cluster_address, num_slots
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
    """The part that one worker has in computing a kind of features.

    Attributes:
        kind: The number of the kind, from 0.
        worker: The number of the worker, from 0.
        num_workers: The number of workers.
        shared: The address of the folder through which machines exchange features; empty if there
            is only this machine.
    """

    kind: int
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

    They share the work; at the end, each machine has all features. Nothing runs if this is the only
    machine, and has them.

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
    shared = "" if cluster_address() is None else f"{folder.address}/{folder.FEATURES}"
    parts = [
        FeaturePart(kind, worker, num_workers, shared)
        for kind in range(len(kinds))
        for worker in range(num_workers)
    ]
    progress = _Progress(plan, kinds, parts, on_progress)

    def arguments(part: FeaturePart, slot: Slot) -> tuple[TrialTask, str, FeaturePart]:
        return _task(study, kinds[part.kind], slot.resources.cpus), progress.key(part), part

    pool = WorkerPool(
        RemoteFunction[FeaturePart, None](
            lambda: compute_stored_features,
            arguments,
            lambda part: f"the features of {_name(kinds[part.kind])}",
        ),
        plan.space.resources,
        on_poll=progress.poll,
    )
    for finished in pool.run(parts):
        if isinstance(finished.error, TrainingFailedError):
            # The trials that would read them fail with that reason; the others go on.
            log.warning("%s", finished.error)
        else:
            finished.result()
        progress.finish(finished.input)
    study.folder.remove(study.folder.FEATURES)


def compute_stored_features(task: TrialTask, progress_key: str, part: FeaturePart) -> None:
    """Compute the features of a configuration that are not stored on this machine.

    Args:
        task: The configuration, as a trial that nobody trains.
        progress_key: The name under which the progress is sent.
        part: The part of this worker.
    """
    device, config = prepare_task(task)
    data = WORKER_CACHE.training_data(task.study, task.data, str(device), task.folds, 1.0)
    send = ProgressSender(progress_key)
    num_before, num_patches = 0, sum(map(len, (data.labels, *(r.labels for r in data.auxiliary))))
    for request in feature_requests(config, data):

        def on_rows(num_done: int, _num_rows: int, first: int = num_before) -> None:
            send(StepProgress(config.architecture, first + num_done, num_patches, PATCHES))

        load_features(request, on_rows, part.shared_chunks())
        num_before += len(request.pixels)


def _task(study: Study, hparams: dict[str, Value], cpus: float) -> TrialTask:
    folds = min(split.folds for split in study.plan.splits)
    name = f"features of {_name(hparams)}"
    return TrialTask(study.folder.address, study.plan.data, name, hparams, 0, folds, 0, cpus)


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
        self._num_patches = num_patches
        self._finished: set[int] = set()
        for part in parts:
            remove_progress(self.key(part))

    def key(self, part: FeaturePart) -> str:
        """Return the name under which a worker sends its progress."""
        return f"{self._name} features {part.kind} {part.worker}"

    def finish(self, part: FeaturePart) -> None:
        """Count a kind of features as finished."""
        self._finished.add(part.kind)

    def poll(self) -> None:
        """Read how far the workers are, which count the patches of all workers of a machine."""
        total = 0.0
        for number in range(len(self._kinds)):
            if number in self._finished:
                total += self._num_patches
                continue
            sent = [read_progress(self.key(part)) for part in self._parts if part.kind == number]
            total += max((progress.done for progress in sent if progress is not None), default=0)
        names = ", ".join(dict.fromkeys(map(_name, self._kinds)))
        step, num_patches = f"computing features of {names}", len(self._kinds) * self._num_patches
        self._on_progress(StepProgress(step, total, num_patches, PATCHES))
