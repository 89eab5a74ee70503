"""What runs in a worker process: trials in a warm actor, a refit, the folds of a fresh seed."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import math
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import torch
from ray import tune
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer, get_device
from torch import nn

from raysearch.data.files import Folder
from raysearch.data.patches import cache_folder
from raysearch.errors import SpaceError, UserError
from raysearch.metrics.classification import METRICS
from raysearch.search.engine.reporter import Reporter, resend_reports, warn
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.fold_scores import judged_file
from raysearch.search.study.trial_data import refit_data, stored_plan, train_config, training_data
from raysearch.training.checkpoint import pack, unpack
from raysearch.training.cost_measurement import forget_peak, net_costs
from raysearch.training.failures import TrainingFailedError
from raysearch.training.fold_training import State
from raysearch.training.loop import FoldNet, measure, train, train_fold
from raysearch.training.memory import retain_allocator_memory
from raysearch.training.model_limits import too_much
from raysearch.training.numerics import Numerics, choose_numerics, device_kind
from raysearch.training.seeds import key
from raysearch.training.train_config import TrainConfig

T = TypeVar("T")
log = logging.getLogger(__name__)
# A trial whose batch is too large for the device is tried once more with this many in its place.
MICRO_BATCHES = 4
# A worker that cannot reach what it needs waits this long before it says so.
UNABLE_AFTER_S = 5.0
# How often a champion is refitted at most, and by how much it has missed that is so again.
REFITS, MISSED = 3, 0.02
# A stopped trial lets go of its actor within this. Tune reads it here, not where it was launched.
os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", "60")


@dataclass(frozen=True)
class Job:
    """One trial as a worker is told of it; `reported` fold-epochs are in the journal already."""

    study: str
    data: str
    trial: str
    hparams: Mapping[str, Any]
    seed: int
    folds: int
    reported: int
    cpus: float


def run_job(config: Mapping[str, Any]) -> None:
    """The Tune function: a Ray Train run in local mode, so that this very actor is its worker."""
    trainer = TorchTrainer(
        lambda: _try_job(Job(**config["job"])), scaling_config=ScalingConfig(num_workers=0)
    )
    trainer.fit()


def _try_job(job: Job) -> None:
    """Train; where data, cache or storage cannot be used, say so: no error of the trial."""
    try:
        train_job(job)
    except (UserError, OSError) as error:
        log.exception("%s could not be trained here", job.trial)
        time.sleep(UNABLE_AFTER_S)
        tune.report({"unable": f"{socket.gethostname()}: {error}"})


def train_job(job: Job) -> None:
    """Train one trial from its last checkpoint; an error of the trial is reported, not raised."""
    folder = StudyFolder(job.study)
    torch.set_num_threads(max(1, int(job.cpus)))
    retain_allocator_memory()
    device = get_device()
    plan = stored_plan(job.study)
    fraction = float(job.hparams.get("patients", 1.0))
    data = training_data(job.study, job.data, str(device), job.folds, fraction)
    config = train_config(plan, job.hparams, job.seed, device)

    ceilings = {one.metric: one.most for one in plan.space.ceilings}
    above = too_much(config, data, ceilings) if ceilings and not job.reported else None
    if above is not None:
        tune.report({"above": above})
        return

    def training(config: TrainConfig) -> None:
        forget_peak(data.device)
        costs = {} if job.reported else net_costs(config, data)
        state = _stored_state(folder, job.trial)
        if state is not None:
            resend_reports(state, job.reported, costs)
        micro_batch = config.micro_batch(config.batch_size) if config.accumulate > 1 else None
        reporter = Reporter(folder, plan, data, job.trial, job.folds, costs, micro_batch)
        train(config, data, reporter, state)

    try:
        with _told_as_failures(job.trial):
            within_memory(config, training)
    except TrainingFailedError as failure:
        tune.report({"failure": str(failure)})


@contextmanager
def _told_as_failures(trial: str) -> Iterator[None]:
    """TrainingFailedError for what is an error of the training of `trial`, wherever it trains.

    Where the device was lost this process goes, for it cannot use that again.
    """
    try:
        yield
    except SpaceError as failure:  # of its hyperparameters
        raise TrainingFailedError(str(failure)) from failure
    except torch.AcceleratorError:
        log.exception("%s lost its device", trial)
        os._exit(1)
    # A error of the program comes again at each try; a lost disk or network may not.
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        log.exception("%s failed", trial)
        said = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise TrainingFailedError(said) from error


def within_memory(config: TrainConfig, training: Callable[[TrainConfig], T]) -> T:
    """`training` with `config`; once more by micro-batches where the device's memory is short.

    TrainingFailedError where it is too short for those, too.
    """
    try:
        return training(config)
    except torch.OutOfMemoryError:
        sparing = replace(config, accumulate=MICRO_BATCHES)
        rows = sparing.micro_batch(config.batch_size)
        log.warning("out of memory: once more, by micro-batches of %d rows", rows, exc_info=True)
    # Only here has the net gone that filled the memory: the error held it.
    gc.collect()
    torch.cuda.empty_cache()
    try:
        return training(sparing)
    except torch.OutOfMemoryError:
        log.exception("out of memory again")
        raise TrainingFailedError("out-of-memory") from None


def _stored_state(folder: StudyFolder, trial: str) -> State | None:
    """The last checkpoint of `trial`; None, with a warning to the study, where it is damaged."""
    name = folder.checkpoint(trial)
    if not folder.exists(name):
        return None
    try:
        return unpack(folder.read(name))
    except ValueError as error:
        warn(f"{folder.path(name)}: {error}; the trial begins again")
        return None


def refit_job(job: Job, least: float | None = None) -> tuple[float | None, int]:
    """Train a trial's hyperparameters once more on all patients, and keep the weights.

    Nobody is left to judge the net, and its last epoch may be an unlucky one. So it is asked for
    some of what it learned from: one that has a worse objective there than `least`, what the folds'
    nets had on patients that they did not know, has missed, and is trained again with another seed,
    REFITS times at most. The best is kept; its objective there, and how many were trained.
    """
    device, config = _alone(job)
    data = refit_data(job.study, job.data, str(device))
    sign = 1 if METRICS[config.metric] == "max" else -1
    found: list[tuple[float, FoldNet]] = []
    for number in range(REFITS):
        seed = key(job.seed, "refit", number) if number else job.seed
        with _told_as_failures(job.trial):
            net = within_memory(replace(config, seed=seed), lambda one: train_fold(one, data, 0))
        value = measure(data, net.judged)[config.metric]
        found.append((-math.inf if value is None else sign * value, net))
        if least is None or value is None or sign * (value - least) >= -MISSED:
            break
    value, best = max(found, key=lambda one: one[0])
    folder = StudyFolder(job.study)
    folder.write(folder.CHAMPION, _packed({"trial": job.trial}, best.net, best.preprocessing))
    return (sign * value if math.isfinite(value) else None), len(found)


def fold_job(job: Job, fold: int, keep_net: bool) -> None:
    """Train one fold of a trial with the fresh seed of `job`; keep its net, and what it judged."""
    device, config = _alone(job)
    fraction = float(job.hparams.get("patients", 1.0))
    data = training_data(job.study, job.data, str(device), job.folds, fraction)
    with _told_as_failures(job.trial):
        done = within_memory(config, lambda config: train_fold(config, data, fold))
    folder, known = StudyFolder(job.study), {"trial": job.trial, "seed": job.seed, "fold": fold}
    if keep_net:
        net = _packed(known, done.net, done.preprocessing)
        folder.write(folder.again_net(job.trial, job.seed, fold), net)
    scores = judged_file(fold, config.epochs * (fold + 1), done.judged, data)
    folder.write(folder.again_scores(job.trial, job.seed, fold), scores)


def _alone(job: Job) -> tuple[torch.device, TrainConfig]:
    """This process made ready for `job` outside Tune: its device, and how the job trains there."""
    torch.set_num_threads(max(1, int(job.cpus)))
    retain_allocator_memory()
    device = get_local_device()
    return device, train_config(stored_plan(job.study), job.hparams, job.seed, device)


def _packed(known: Mapping[str, Any], net: nn.Module, preprocessing: nn.Module) -> bytes:
    """The weights of a trained net and its pre-processing, with what is `known` of them."""
    model, fitted = (
        {name: value.cpu() for name, value in part.state_dict().items()}
        for part in (net, preprocessing)
    )
    return pack({**known, "model": model, "preprocessing": fitted})


def probe_job(
    sample: Mapping[str, Mapping[str, Any]],
    shape: tuple[int, int, int],
    classes: int,
    cpus: float,
) -> tuple[str, dict[str, Numerics]]:
    """The kind of this worker's device, and how each sampled architecture computes best on it.

    A node remembers what it found: timings are noisy, and two studies of one seed should not
    differ by them.
    """
    threads = max(1, int(cpus))
    torch.set_num_threads(threads)
    retain_allocator_memory()
    device = get_local_device()
    kind = device_kind(device)
    known = Folder(cache_folder() / "numerics")
    found = {}
    for name, hparams in sample.items():
        asked = json.dumps([kind, threads, torch.__version__, name, hparams, shape, classes])
        file = f"{hashlib.sha256(asked.encode()).hexdigest()[:24]}.json"
        if not known.exists(file):
            chosen = choose_numerics(name, hparams, shape, classes, device)
            known.write(file, json.dumps(asdict(chosen)).encode())
        found[name] = Numerics(**json.loads(known.read(file)))
    return kind, found


def get_local_device() -> torch.device:
    """The device of this worker outside a trial."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
