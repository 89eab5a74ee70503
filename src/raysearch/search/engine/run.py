"""Ray, started and ended: the search of a study, and single jobs on its workers."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysearch.errors import StudyError
from raysearch.search.engine.adapters import StudyScheduler, StudySearcher, job_of
from raysearch.search.engine.worker import probe_job, refit_job, run_job
from raysearch.search.folder import StudyFolder
from raysearch.search.history import Trial
from raysearch.search.plan import Plan
from raysearch.search.space import Resources
from raysearch.search.study import Study
from raysearch.training.numerics import Numerics

log = logging.getLogger(__name__)
# A lost worker's trial goes on elsewhere this often before it counts as failed.
MOST_LOSSES = 3
SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # The live table is ours.
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


class InterruptedStudyError(KeyboardInterrupt):
    """SIGINT or SIGTERM came; `signum` says which.

    A KeyboardInterrupt, because Ray swallows every other exception of a handler that runs while
    Ray waits; and what comes out of Ray then is a plain KeyboardInterrupt.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@contextmanager
def ray_session() -> Iterator[None]:
    """Join the cluster that RAY_ADDRESS names, or start Ray on this machine, and leave it after.

    Within it SIGINT and SIGTERM raise `InterruptedStudyError` in the main thread.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in SETTINGS.items()})
    address = os.environ.get("RAY_ADDRESS")
    try:
        ray.init(
            # Without one named, Ray would join whatever it finds on this machine.
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
        )
    except (ConnectionError, ValueError, RuntimeError) as fault:
        raise StudyError(
            f"Ray at {address or 'this machine'} cannot be used ({_first_line(fault)}); start it,"
            " or set RAY_ADDRESS to a running one, or unset it"
        ) from None
    # Ray sets a handler of its own for SIGTERM, so ours come after it.
    came: list[int] = []

    def interrupt(signum: int, _frame: FrameType | None) -> None:
        came.append(signum)
        raise InterruptedStudyError(signum)

    before = {one: signal.signal(one, interrupt) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedStudyError(came[0] if came else signal.SIGINT) from None
    finally:
        for one in before:
            signal.signal(one, signal.SIG_IGN)
        ray.shutdown()
        for one, handler in before.items():
            signal.signal(one, handler)


def slots(resources: Resources) -> int:
    """How many trials with `resources` the cluster holds at once."""
    return sum(_holds(node, resources) for node in ray.nodes())


def _holds(node: Mapping[str, Any], resources: Resources) -> int:
    """How many trials with `resources` the node holds at once; 0 where it is gone."""
    if not node["Alive"]:
        return 0
    most = node["Resources"].get("CPU", 0.0) / resources.cpus
    if resources.gpus:
        most = min(most, node["Resources"].get("GPU", 0.0) / resources.gpus)
    return int(most + 1e-9)


def probe(plan: Plan) -> Plan:
    """`plan` with how each of its architectures computes on each kind of device of the cluster."""
    resources = plan.space.resources
    nodes = _nodes_for(resources)
    arguments = (plan.space.largest_nets(), plan.shape, len(plan.class_names), resources.cpus)
    waiting = [_remote(probe_job, resources, node["NodeID"]).remote(*arguments) for node in nodes]
    found: dict[str, dict[str, Numerics]] = {}
    for kind, numerics in _answers(waiting):
        found.setdefault(kind, numerics)
    return plan.with_numerics(found)


def _nodes_for(resources: Resources) -> list[Mapping[str, Any]]:
    """The nodes that hold a trial with `resources`; StudyError where there is none."""
    nodes = [node for node in ray.nodes() if _holds(node, resources)]
    if not nodes:
        raise StudyError(
            f"no machine has the {resources.cpus:g} CPUs and {resources.gpus:g} GPUs that a trial"
            " takes; lower `resources` in the space, or wait for such a machine"
        )
    return nodes


def _answers(waiting: list[Any]) -> list[Any]:
    """What the jobs `waiting` return; what one raised is raised as it was there."""
    try:
        return list(ray.get(waiting))
    except RayTaskError as fault:
        raise fault.cause from None
    except RayError as fault:
        raise StudyError(
            f"a worker could not start or went away ({_first_line(fault)}); see the study's logs,"
            " then launch again"
        ) from None


def _first_line(fault: Exception) -> str:
    return (str(fault).splitlines() or [type(fault).__name__])[0][:200]


def search(study: Study) -> None:
    """Run the study's trials to their end; what they report is in its journal."""
    resources = study.plan.space.resources
    _nodes_for(resources)
    count = max(1, slots(resources))
    searcher = StudySearcher(study, lambda: max(1, slots(resources)))
    trainable = tune.with_resources(run_job, {"cpu": resources.cpus, "gpu": resources.gpus})
    # Tune keeps files of its own; nobody reads them again.
    with tempfile.TemporaryDirectory(prefix="raysearch-tune-") as scratch:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=StudyScheduler(study, searcher),
                num_samples=-1,
                max_concurrent_trials=count,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="study",
                storage_path=scratch,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=MOST_LOSSES),
            ),
        )
        try:
            tuner.fit()
        except Exception:
            if study.halted is None:
                raise
            log.exception("the search ended")
    if study.halted is not None:
        raise StudyError(f"{study.halted}; put it right, then go on with --resume")
    if not study.ended():
        raise StudyError(
            f"study {study.plan.name!r} stopped before its trials had ended; see its logs, then"
            " go on with --resume"
        )


def refit(study: Study, trial: Trial) -> None:
    """Train `trial` once more on all patients, on a worker; its weights are kept.

    TrainingFailedError where that cannot be done with these knobs.
    """
    wanted = study.plan.space.resources
    # No trial runs beside it, so it may have a whole machine's cores.
    cores = max(node["Resources"].get("CPU", 0) for node in _nodes_for(wanted))
    resources = Resources(max(cores, wanted.cpus), wanted.gpus)
    job = replace(job_of(study, trial), cpus=resources.cpus)
    _answers([_remote(refit_job, resources).remote(job)])


def keep_worker_logs(folder: StudyFolder) -> None:
    """Copy what this machine's workers wrote into the study's folder, where it is a local one."""
    session = Path(ray._private.worker._global_node.get_logs_dir_path())  # noqa: SLF001 no public way
    if not folder.is_local or not session.is_dir():
        return
    target = folder.local / folder.LOGS
    target.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # what a full disk does not take is no reason to fail now
        for path in session.glob("worker-*"):
            if path.stat().st_size:
                shutil.copy(path, target / path.name)


def _remote(function: Callable[..., Any], resources: Resources, node: str | None = None) -> Any:
    strategy = NodeAffinitySchedulingStrategy(node, soft=False) if node else "DEFAULT"
    return ray.remote(function).options(
        num_cpus=resources.cpus, num_gpus=resources.gpus, scheduling_strategy=strategy
    )
