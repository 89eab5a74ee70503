"""What runs in a worker process: one trial after another in the same warm actor, and the refit."""

from __future__ import annotations

import gc
import hashlib
import io
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from ray import tune
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer, get_device

from raysearch.data.files import Folder
from raysearch.data.patches import cache_folder
from raysearch.errors import SpaceError, UserError
from raysearch.scores.metrics import score
from raysearch.search.deciding.rules import PAUSING
from raysearch.search.engine.slots import slots_of
from raysearch.search.folder import StudyFolder
from raysearch.search.plan import Plan
from raysearch.search.space import Resources
from raysearch.search.trial_data import refit_data, stored_plan, train_config, training_data
from raysearch.training.ceilings import too_much
from raysearch.training.checkpoint import pack, unpack
from raysearch.training.config import TrainConfig
from raysearch.training.costs import forget_peak, net_costs, peak_memory
from raysearch.training.data import TrainingData
from raysearch.training.failures import TrainingFailedError
from raysearch.training.fold_run import Judged, State
from raysearch.training.loop import FoldEpoch, probabilities, refit, train
from raysearch.training.memory import keep_memory
from raysearch.training.numerics import Numerics, choose_numerics, device_kind

T = TypeVar("T")
log = logging.getLogger(__name__)
# A trial whose batch is too large for the device is tried once more with this many in its place.
MICRO_BATCHES = 4
# A checkpoint more often than this would cost short trials more than it saves.
CHECKPOINT_EVERY_S = 10.0
LEAVING_EVERY_S = 2.0
# Ray's autoscaler tells each node its type by this.
NODE_TYPE = "RAY_NODE_TYPE_NAME"
# A worker that cannot reach what it needs waits this long before it says so.
UNABLE_AFTER_S = 5.0
# A stopped trial lets go of its actor within this. Tune reads it here, not where it was launched.
os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", "60")


@dataclass(frozen=True)
class Job:
    """One trial as a worker is told of it; `reported` fold-epochs are in the journal already."""

    study: str
    data: str
    trial: str
    knobs: Mapping[str, Any]
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
    """Train; where data, cache or storage cannot be used, say so: no fault of the trial."""
    try:
        train_job(job)
    except (UserError, OSError) as fault:
        log.exception("%s could not be trained here", job.trial)
        time.sleep(UNABLE_AFTER_S)
        tune.report({"unable": f"{socket.gethostname()}: {fault}"})


def train_job(job: Job) -> None:
    """Train one trial from its last checkpoint; a fault of the trial is reported, not raised."""
    folder = StudyFolder(job.study)
    torch.set_num_threads(max(1, int(job.cpus)))
    keep_memory()
    device = get_device()
    plan = stored_plan(job.study)
    share = float(job.knobs.get("patients", 1.0))
    data = training_data(job.study, job.data, str(device), job.folds, share)
    config = train_config(plan, job.knobs, job.seed, device)

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
            _report_again(state, job.reported, costs)
        micro_batch = config.micro_batch(config.batch_size) if config.accumulate > 1 else None
        train(config, data, _Reporter(folder, plan, job, data, costs, micro_batch), state)

    try:
        within_memory(config, training)
    except (TrainingFailedError, SpaceError) as failure:  # of its knobs, wherever it trains
        tune.report({"failure": str(failure)})
    except torch.AcceleratorError:
        # This process cannot use its device again, so it goes, and the trial goes on elsewhere.
        log.exception("%s lost its device", job.trial)
        os._exit(1)
    # A fault of the program comes again at each try; a lost disk or network may not.
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as fault:
        log.exception("%s failed", job.trial)
        tune.report({"failure": f"{type(fault).__name__}: {fault}".splitlines()[0][:200]})


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
    # Only here has the net gone that filled the memory: the fault held it.
    gc.collect()
    torch.cuda.empty_cache()
    try:
        return training(sparing)
    except torch.OutOfMemoryError:
        log.exception("out of memory again")
        raise TrainingFailedError("out-of-memory") from None


class _Reporter:
    """Takes each fold-epoch of one trial: scores at rungs, a checkpoint, then the report."""

    def __init__(
        self,
        folder: StudyFolder,
        plan: Plan,
        job: Job,
        data: TrainingData,
        costs: Mapping[str, int],
        micro_batch: int | None = None,
    ) -> None:
        self._folder, self._job, self._data = folder, job, data
        self._costs = costs
        self._micro_batch = micro_batch
        whole = plan.space.epochs
        ends = {whole * fold for fold in range(1, job.folds + 1)}
        self._scored = ends | set(plan.split(job.folds).rungs)
        # Where the trial may have to wait, and at its end, in case it is the best.
        self._waits = self._scored if plan.space.stopping.rule in PAUSING else {max(ends)}
        self._several = len(plan.splits) > 1
        self._price = _dollars_a_second(plan.space.resources)
        self._metric = plan.space.metric
        self._saved = time.monotonic()
        self._asked = 0.0

    def __call__(self, done: FoldEpoch, judged: Judged, state: Callable[[], State]) -> None:
        if done.epoch in self._scored:
            name = self._folder.scores(self._job.trial, done.epoch)
            self._folder.write(name, _scores_table(done, judged, self._data))
        leaving = self._leaving()
        due = time.monotonic() - self._saved >= CHECKPOINT_EVERY_S
        if leaving or due or done.epoch in self._waits:
            self._folder.keep(self._job.trial, pack(state()))
            self._saved = time.monotonic()
        send({**_told(asdict(done), self._costs), **self._more(done, judged)})
        if leaving:
            # The trial goes on elsewhere from here; this worker is not to be reused.
            log.warning("this machine is being taken away; %s moves", self._job.trial)
            os._exit(0)

    def _more(self, done: FoldEpoch, judged: Judged) -> dict[str, Any]:
        """What no checkpoint keeps: what was measured here, and what only some reports have.

        Dollars, the metric of all folds' scores pooled, the rows of a micro-batch where memory is
        short.
        """
        more: dict[str, Any] = dict(peak_memory(self._data.device))
        if judged.inference_ms is not None:
            more["inference_ms"] = judged.inference_ms
        if self._micro_batch is not None:
            more["micro_batch"] = self._micro_batch
        if self._price:
            more["dollars"] = done.seconds * self._price
        if self._several and done.epoch == max(self._scored):
            more["pooled"] = self._pooled(done)
        return more

    def _pooled(self, done: FoldEpoch) -> float | None:
        """The objective over all folds' judged rows at once, each row by its own fold's model."""
        whole = done.epoch // self._job.folds
        ends = [self._folder.scores(self._job.trial, whole * fold) for fold in self._fold_numbers()]
        tables = [pq.read_table(io.BytesIO(self._folder.read(name))) for name in ends]
        table = pa.concat_tables(tables)
        names = self._data.class_names
        logits = np.column_stack([table[f"logit_{name}"].to_numpy() for name in names])
        return score(table["label"].to_numpy(), probabilities(logits), names)[self._metric]

    def _fold_numbers(self) -> range:
        return range(1, self._job.folds + 1)

    def _leaving(self) -> bool:
        """Whether this machine was told that it will go; asked now and then."""
        if time.monotonic() - self._asked < LEAVING_EVERY_S:
            return False
        self._asked = time.monotonic()
        return this_node() in leaving_nodes()


def _dollars_a_second(resources: Resources) -> float:
    """What a trial's share of this machine costs; the dearest type's price where it has none."""
    if not resources.prices:
        return 0.0
    prices = dict(resources.prices)
    price = prices.get(os.environ.get(NODE_TYPE, ""), max(prices.values()))
    here = next(node for node in ray.nodes() if node["NodeID"] == this_node())
    return price / 3600 / max(1, slots_of(here, resources))


def leaving_nodes() -> set[str]:
    """The ids of the nodes that were told that they will go, such as spot machines."""
    return set(ray._private.state.state.get_draining_nodes())  # noqa: SLF001 no public way


def this_node() -> str:
    """The id of the node that this process runs on."""
    return str(ray.get_runtime_context().get_node_id())


def send(report: Mapping[str, Any]) -> None:
    """Report to the study, with where it was; as text, since Tune flattens what is nested."""
    report = {**report, "host": socket.gethostname()}
    tune.report({"report": json.dumps(report), "node": this_node()})


def _report_again(state: State, reported: int, costs: Mapping[str, int]) -> None:
    """Report what the checkpoint knows and the journal does not, as after a kill between them."""
    for known in state["history"]:
        if known["epoch"] > reported:
            send(_told(known, costs))


def _told(done: Mapping[str, Any], costs: Mapping[str, int]) -> dict[str, Any]:
    """The fold-epoch `done`; the trial's first one has the `costs` that do not change."""
    return {**done, "costs": costs} if costs and done["epoch"] == 1 else dict(done)


def _scores_table(done: FoldEpoch, judged: Judged, data: TrainingData) -> bytes:
    """The validation scores as Parquet: patch, patient, fold, epoch, and a logit a class."""
    count = len(judged.rows)
    columns: dict[str, Any] = {
        "patch": pa.array(judged.rows),
        "patient": pa.array(data.patients[judged.rows].tolist(), pa.string()),
        "label": pa.array(data.labels.cpu().numpy()[judged.rows]),
        "fold": pa.array(np.full(count, done.fold, np.int16)),
        "epoch": pa.array(np.full(count, done.epoch, np.int32)),
    }
    for number, name in enumerate(data.class_names):
        columns[f"logit_{name}"] = pa.array(judged.logits[:, number])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, write_page_checksum=True)
    return bytes(sink.getvalue())


def _stored_state(folder: StudyFolder, trial: str) -> State | None:
    """The last checkpoint of `trial`; None, with a warning to the study, where it is damaged."""
    name = folder.checkpoint(trial)
    if not folder.exists(name):
        return None
    try:
        return unpack(folder.read(name))
    except ValueError as fault:
        text = f"{folder.path(name)}: {fault}; the trial begins again"
        log.warning("%s", text)
        tune.report({"warning": text, "node": this_node()})
        return None


def refit_job(job: Job) -> None:
    """Train a trial's knobs once more on all patients, and keep the weights."""
    torch.set_num_threads(max(1, int(job.cpus)))
    keep_memory()
    device = get_local_device()
    plan = stored_plan(job.study)
    data = refit_data(job.study, job.data, str(device))
    config = train_config(plan, job.knobs, job.seed, device)
    parts = within_memory(config, lambda config: refit(config, data, lambda _epoch: None))
    model, preprocessing = (
        {name: value.cpu() for name, value in part.state_dict().items()} for part in parts
    )
    state = {"trial": job.trial, "model": model, "preprocessing": preprocessing}
    folder = StudyFolder(job.study)
    folder.write(folder.CHAMPION, pack(state))


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
    keep_memory()
    device = get_local_device()
    kind = device_kind(device)
    known = Folder(cache_folder() / "numerics")
    found = {}
    for name, knobs in sample.items():
        asked = json.dumps([kind, threads, torch.__version__, name, knobs, shape, classes])
        file = f"{hashlib.sha256(asked.encode()).hexdigest()[:24]}.json"
        if not known.exists(file):
            chosen = choose_numerics(name, knobs, shape, classes, device)
            known.write(file, json.dumps(asdict(chosen)).encode())
        found[name] = Numerics(**json.loads(known.read(file)))
    return kind, found


def get_local_device() -> torch.device:
    """The device of this worker outside a trial."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
