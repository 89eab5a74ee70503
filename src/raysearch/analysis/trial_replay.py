"""Replays a trial: trains it again from its record and compares the objectives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from raysearch.config.hyperparameters import resolve
from raysearch.config.report_interval import trial_epochs
from raysearch.data.files import Folder
from raysearch.data.shards.shard_manifest import read_manifest
from raysearch.errors import DataError, StudyError
from raysearch.search.journal.history import Trial
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan
from raysearch.search.study.stored_study import load_study
from raysearch.search.study.trial_data import WORKER_CACHE, train_config
from raysearch.training.failures import FAILURES, TrainingFailedError
from raysearch.training.loop import FoldEpoch, train
from raysearch.training.memory import retain_allocator_memory
from raysearch.training.precision_settings import device_kind
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

ProgressCallback = Callable[[int, int], None]
# Other instruction sets, numbers of threads or precisions changed objectives by 0.004 to 0.012 on
# one machine (benchmarks/replays.py). This is more than twice as much. GPUs were not measured.
OTHER_MACHINE_TOLERANCE = 0.03
MAX_LISTED_TRIALS = 20


@dataclass(frozen=True)
class EpochComparison:
    """The recorded and the replayed objective of a fold-epoch; None if it was not reached."""

    epoch: int
    fold: int
    recorded: float | None
    replayed: float | None

    @property
    def difference(self) -> float:
        """The absolute difference; infinite if one of them is missing."""
        if self.recorded is None or self.replayed is None:
            return math.inf
        return abs(self.replayed - self.recorded)


@dataclass(frozen=True)
class TrialReplay:
    """The result of a replay.

    Attributes:
        trial: The recorded trial.
        epochs: The comparison of each fold-epoch.
        failure: How the replayed training failed; empty if it did not.
        expected_failure: How the recorded training failed; empty if it did not.
        device_kind: The kind of device of the replay.
        on_cpu: Whether the replay ran on a CPU.
        probed_devices: The kinds of device for which the study chose a precision.
    """

    trial: Trial
    epochs: tuple[EpochComparison, ...]
    failure: str
    expected_failure: str
    device_kind: str
    on_cpu: bool
    probed_devices: frozenset[str]

    @property
    def max_difference(self) -> float:
        """The largest difference of an objective."""
        return max((comparison.difference for comparison in self.epochs), default=0.0)

    @property
    def uses_default_precision(self) -> bool:
        """Whether the study chose precisions, but none for the replay's kind of device."""
        return bool(self.probed_devices) and self.device_kind not in self.probed_devices

    def agrees(self, tolerance: float) -> bool:
        """Return whether no objective differs by more than `tolerance`, and failures are equal."""
        return self.max_difference <= tolerance and self.failure == self.expected_failure


def default_tolerance(replay: TrialReplay, host: str) -> float:
    """Return the largest difference that a correct replay can have.

    It is 0 on the machine that trained the trial, if it has no GPU.

    Args:
        replay: The result of the replay.
        host: The name of this machine.
    """
    hosts = {str(report.host) for report in replay.trial.reports}
    return 0.0 if replay.on_cpu and hosts <= {host} else OTHER_MACHINE_TOLERANCE


class _ReplayFinishedError(Exception):
    """Ends a training after the last fold-epoch to compare."""


def replay_trial(
    folder: StudyFolder,
    trial_id: str,
    folds: int | None,
    data: str | None,
    on_progress: ProgressCallback,
) -> TrialReplay:
    """Train a trial again on this machine and compare its objectives with the recorded ones.

    The plan, the splits, the hyperparameters, the seed, the precision and the number of threads are
    those of the recorded training. A training that failed is replayed until it fails again. The
    function writes no file.

    Args:
        folder: The study's folder.
        trial_id: The trial, such as "t0003" or "benchmark".
        folds: Only the first folds; None for all.
        data: The address of the shards, if they have moved.
        on_progress: Called with the finished and the total fold-epochs.

    Raises:
        StudyError: If the study has no such trial, or it has no fold-epoch to compare.
        DataError: If the shards are not those of the study.
    """
    plan, trial = WORKER_CACHE.plan(folder.address), _recorded_trial(folder, trial_id)
    plan.code.require(f"study {plan.name!r}")
    num_fold_epochs = _num_fold_epochs(plan, trial, folds)
    address = data or plan.data
    if read_manifest(Folder(address)).fingerprint != plan.fingerprint:
        raise DataError(
            f"{address}: other shards than those of study {folder.name!r}; restore them, or pass"
            " their folder with --data"
        )
    resources = plan.space.resources
    torch.set_num_threads(max(1, int(resources.cpus)))
    retain_allocator_memory()
    device = torch.device("cuda" if resources.gpus and torch.cuda.is_available() else "cpu")
    fraction = resolve(trial.hparams).patient_fraction
    rows = WORKER_CACHE.training_data(folder.address, address, str(device), trial.folds, fraction)
    config = train_config(plan, trial.hparams, trial.seed, device)
    fold_epochs, failure = _train(config, rows, num_fold_epochs, on_progress)
    return TrialReplay(
        trial=trial,
        epochs=_compare_epochs(plan, trial, fold_epochs, num_fold_epochs),
        failure=failure,
        expected_failure=trial.reason if num_fold_epochs > trial.epoch else "",
        device_kind=device_kind(device),
        on_cpu=device.type == "cpu",
        probed_devices=frozenset(plan.precision_settings),
    )


def _recorded_trial(folder: StudyFolder, trial_id: str) -> Trial:
    """Return the trial of the journal; StudyError if it was not trained."""
    trials = load_study(folder).history.trials
    trial = trials.get(trial_id)
    if trial is None:
        trained = [name for name, other in trials.items() if other.kind != "majority"]
        names = ", ".join(trained[:MAX_LISTED_TRIALS])
        available = f"choose one of {names}" if trained else "it has no trial yet"
        raise StudyError(f"no trial {trial_id!r} in study {folder.name!r}; {available}")
    if trial.kind == "majority":
        raise StudyError(
            f"{trial_id} is the class-prior baseline, which is not trained; choose another trial"
        )
    if not trial.reports and not _is_reproducible_failure(trial):
        reason = f"it failed before ({trial.reason})" if trial.reason else "wait for its first"
        raise StudyError(f"{trial_id} has no fold-epoch to compare; {reason}")
    return trial


def _num_fold_epochs(plan: Plan, trial: Trial, folds: int | None) -> int:
    """Return the number of fold-epochs of the replay."""
    if folds is not None and not 1 <= folds <= trial.folds:
        raise StudyError(
            f"--folds {folds}: {trial.id} has {trial.folds} folds; allowed are 1 to {trial.folds}"
        )
    requested = trial_epochs(plan.space, trial.hparams) * (folds or trial.folds)
    return min(requested, trial.epoch + _is_reproducible_failure(trial))


def _is_reproducible_failure(trial: Trial) -> bool:
    """Return whether the training itself failed; a lost worker's training would not fail again."""
    return trial.status == "failed" and trial.reason in FAILURES


def _train(
    config: TrainConfig,
    rows: TrainingData,
    num_fold_epochs: int,
    on_progress: ProgressCallback,
) -> tuple[list[FoldEpoch], str]:
    """Train `num_fold_epochs`; return them and the training's failure, empty if there is none."""
    finished: list[FoldEpoch] = []

    def report(fold_epoch: FoldEpoch, *_state: object) -> None:
        finished.append(fold_epoch)
        on_progress(fold_epoch.epoch, num_fold_epochs)
        if fold_epoch.epoch >= num_fold_epochs:
            raise _ReplayFinishedError

    try:
        train(config, rows, report)
    except _ReplayFinishedError:
        return finished, ""
    except TrainingFailedError as error:
        return finished, str(error)
    return finished, ""


def _compare_epochs(
    plan: Plan, trial: Trial, fold_epochs: Sequence[FoldEpoch], num_fold_epochs: int
) -> tuple[EpochComparison, ...]:
    recorded = {report.epoch: report.objective for report in trial.reports}
    replayed = {fold_epoch.epoch: fold_epoch.objective for fold_epoch in fold_epochs}
    epochs = trial_epochs(plan.space, trial.hparams)
    return tuple(
        EpochComparison(epoch, (epoch - 1) // epochs, recorded.get(epoch), replayed.get(epoch))
        for epoch in range(1, num_fold_epochs + 1)
        if epoch in recorded or epoch in replayed
    )
