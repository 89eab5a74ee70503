"""A trial trained once more from its record, and its numbers beside those that were recorded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from raysearch.data.files import Folder
from raysearch.data.shards.shard_manifest import read_manifest
from raysearch.errors import DataError, StudyError
from raysearch.search.journal.history import Trial
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan
from raysearch.search.study.study import read_history
from raysearch.search.study.trial_data import stored_plan, train_config, training_data
from raysearch.training.failures import FAILURES, TrainingFailedError
from raysearch.training.loop import FoldEpoch, train
from raysearch.training.memory import retain_allocator_memory
from raysearch.training.numerics import device_kind
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

Progress = Callable[[int, int], None]
# Other instructions, threads or precision made .004 to .012 on one machine
# (benchmarks/replays.py); this is more than twice as much. What a GPU makes was not measured.
ELSEWHERE = 0.03


@dataclass(frozen=True)
class Compared:
    """A fold-epoch's objective as it was recorded and as it is now; None where there was none."""

    epoch: int
    fold: int
    recorded: float | None
    replayed: float | None

    @property
    def difference(self) -> float:
        """How far apart they are; infinite where one of them is missing."""
        if self.recorded is None or self.replayed is None:
            return math.inf
        return abs(self.replayed - self.recorded)


@dataclass(frozen=True)
class Replay:
    """What a replay found.

    `failure` is how the training failed this time, `expected` how it had failed by the record;
    empty for not at all. `device` is the kind it ran on; `probed` are those that the study chose
    precisions for.
    """

    trial: Trial
    epochs: tuple[Compared, ...]
    failure: str
    expected: str
    device: str
    on_cpu: bool
    probed: frozenset[str]

    @property
    def largest(self) -> float:
        """The largest difference."""
        return max((one.difference for one in self.epochs), default=0.0)

    @property
    def plain(self) -> bool:
        """Whether the study chose precisions, and none for this kind of device."""
        return bool(self.probed) and self.device not in self.probed

    def agrees(self, tolerance: float) -> bool:
        """Whether no objective is further apart than `tolerance`, and a failure came again."""
        return self.largest <= tolerance and self.failure == self.expected


def default_tolerance(found: Replay, host: str) -> float:
    """How far apart two honest trainings of the trial may be; `host` is this machine's name."""
    hosts = {str(one.get("host")) for one in found.trial.reports}
    return 0.0 if found.on_cpu and hosts <= {host} else ELSEWHERE


class _EnoughError(Exception):
    """All that was recorded has been trained again."""


def replay(
    folder: StudyFolder,
    trial_id: str,
    folds: int | None,
    data: str | None,
    progress: Progress,
) -> Replay:
    """Train the trial again on this machine, as far as it was recorded, or its first `folds`.

    With the plan, the splits, the hyperparameters, the seed, the precision and the number of threads that
    its worker had; nothing is written. `data` says where the shards are now. One whose training
    failed is trained until it fails again. StudyError and DataError where that cannot be done.
    """
    plan, trial = stored_plan(folder.address), _recorded(folder, trial_id)
    until = _fold_epochs(plan, trial, folds)
    address = data or plan.data
    if read_manifest(Folder(address)).fingerprint != plan.fingerprint:
        raise DataError(
            f"{address}: other shards than study {folder.name!r} was made with; put those back, or"
            " name their folder by --data"
        )
    resources = plan.space.resources
    torch.set_num_threads(max(1, int(resources.cpus)))
    retain_allocator_memory()
    device = torch.device("cuda" if resources.gpus and torch.cuda.is_available() else "cpu")
    fraction = float(trial.hparams.get("patients", 1.0))
    rows = training_data(folder.address, address, str(device), trial.folds, fraction)
    config = train_config(plan, trial.hparams, trial.seed, device)
    done, failure = _trained(config, rows, until, progress)
    return Replay(
        trial=trial,
        epochs=_compared(plan, trial, done, until),
        failure=failure,
        expected=trial.reason if until > trial.epoch else "",
        device=device_kind(device),
        on_cpu=device.type == "cpu",
        probed=frozenset(plan.numerics),
    )


def _recorded(folder: StudyFolder, trial_id: str) -> Trial:
    """The trial as the journal tells it; StudyError where there is none that was trained."""
    trials = read_history(folder).trials
    trial = trials.get(trial_id)
    trained = [one.id for one in trials.values() if one.kind != "majority"]
    if trial is None:
        known = f"one of {', '.join(trained[:20])}" if trained else "it has none yet"
        raise StudyError(f"no trial {trial_id!r} in study {folder.name!r}; {known}")
    if trial.kind == "majority":
        raise StudyError(f"{trial_id} was not trained: class shares are counted; name another")
    if not trial.reports and not _failed_training(trial):
        why = f"it failed before ({trial.reason})" if trial.reason else "wait for its first"
        raise StudyError(f"{trial_id} has no fold-epoch to compare; {why}")
    return trial


def _fold_epochs(plan: Plan, trial: Trial, folds: int | None) -> int:
    """After how many fold-epochs a replay ends."""
    if folds is not None and not 1 <= folds <= trial.folds:
        raise StudyError(f"--folds {folds}: {trial.id} has {trial.folds}; give 1 to {trial.folds}")
    until = plan.space.epochs * (folds or trial.folds)
    return min(until, trial.epoch + _failed_training(trial))


def _failed_training(trial: Trial) -> bool:
    """Whether the training itself failed, and will again; a lost worker's would go on."""
    return trial.status == "failed" and trial.reason in FAILURES


def _trained(
    config: TrainConfig, rows: TrainingData, until: int, progress: Progress
) -> tuple[list[FoldEpoch], str]:
    """The first `until` fold-epochs, and how the training failed before; empty for not at all."""
    done: list[FoldEpoch] = []

    def take(epoch: FoldEpoch, *_more: object) -> None:
        done.append(epoch)
        progress(len(done), until)
        if len(done) == until:
            raise _EnoughError

    try:
        train(config, rows, take)
    except _EnoughError:
        return done, ""
    except TrainingFailedError as error:
        return done, str(error)
    return done, ""


def _compared(plan: Plan, trial: Trial, done: list[FoldEpoch], until: int) -> tuple[Compared, ...]:
    recorded = {int(one["epoch"]): float(one["objective"]) for one in trial.reports}
    replayed = {one.epoch: one.objective for one in done}
    found = (
        Compared(epoch, (epoch - 1) // plan.space.epochs, recorded.get(epoch), replayed.get(epoch))
        for epoch in range(1, until + 1)
    )
    return tuple(one for one in found if (one.recorded, one.replayed) != (None, None))
