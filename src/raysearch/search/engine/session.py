"""Ray, started and ended: the search of a study, and single jobs on its workers."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray import tune
from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayError, RayTaskError
from ray.tune.execution import class_cache
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysearch.config.space import Resources
from raysearch.errors import StudyError
from raysearch.search.engine.nodes import draining_nodes, slots_of
from raysearch.search.engine.tune_adapters import StudyScheduler, StudySearcher, job_of
from raysearch.search.engine.worker_tasks import probe_job, refit_job, run_job
from raysearch.search.journal.history import Trial
from raysearch.search.journal.journal import Event
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan
from raysearch.search.study.study import Study
from raysearch.training.numerics import Numerics

log = logging.getLogger(__name__)
# A lost worker's trial goes on elsewhere this often before it counts as failed.
MAX_WORKER_LOSSES = 3
# Room is asked for anew when this share of what was asked for is enough.
FEWER = 0.95
# `ray up` leaves this on the head, and nowhere else.
HEAD_MARK = Path.home() / "ray_bootstrap_config.yaml"
MACHINE_WAIT_S = 900.0
AWS_SECRETS = {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}
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
    address = cluster_address()
    try:
        ray.init(
            # Without one named, Ray would join whatever it finds on this machine.
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
        )
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:
        raise StudyError(
            f"Ray at {address or 'this machine'} cannot be used ({_first_line(error)}); start it,"
            " or set RAY_ADDRESS to a running one, or to `local` for this machine alone"
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


def cluster_address() -> str | None:
    """The cluster to join: RAY_ADDRESS, or the one whose head this machine is; None for neither.

    A machine is a head where `ray up` left its configuration. Anything else that Ray would find
    here is somebody else's.
    """
    named = os.environ.get("RAY_ADDRESS")
    if named == "local":
        return None
    return named or ("auto" if HEAD_MARK.exists() else None)


def slots(resources: Resources) -> int:
    """How many trials with `resources` the cluster holds at once."""
    return sum(slots_of(node, resources) for node in available_nodes(resources))


def ask_for_machines(resources: Resources, trials: int) -> None:
    """Ask the cluster's autoscaler for room for `trials` at once; it brings what it may.

    What was asked before is forgotten, whoever asked it.
    """
    if cluster_address() is None:
        return
    bundle = {"CPU": resources.cpus, "GPU": resources.gpus}
    needed = {name: value for name, value in bundle.items() if value}
    try:
        request_resources(bundles=[needed] * trials)
    except (RayError, RuntimeError, OSError):  # a study is not lost by it: machines are there
        log.exception("the autoscaler was not asked")


class _Demand:
    """Asks for room for the trials that are to train, whenever it is more or clearly fewer."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._asked: int | None = None
        self.on_event({"event": "end"})

    def on_event(self, event: Event) -> None:
        """Ask anew where a trial has ended and more are left, or no more than `FEWER` of those.

        Left are those to begin, those that train, and one in the place of that which ended, where
        any waits. To ask for thousands takes tens of milliseconds.
        """
        if event["event"] != "end":
            return
        history = self._study.history
        training = sum(one.kind == "trial" for one in history.running())
        left = self._study.policy.trials - len(history.searched()) + training
        left += bool(history.paused())
        asked = self._asked
        if asked is None or left > asked or (left <= FEWER * asked and left < asked):
            ask_for_machines(self._study.plan.space.resources, left)
            self._asked = left


def probe(plan: Plan) -> Plan:
    """`plan` with how each of its architectures computes on each kind of device of the cluster."""
    resources = plan.space.resources
    ask_for_machines(resources, plan.space.trials)
    nodes = nodes_for(resources)
    arguments = (plan.space.largest_nets(), plan.shape, len(plan.class_names), resources.cpus)
    tasks = [ActorTask(node["NodeID"], resources, probe_job, *arguments) for node in nodes]
    found: dict[str, dict[str, Numerics]] = {}
    lost: WorkerLostError | None = None
    for task in tasks:
        try:
            kind, numerics = task.result()
        except WorkerLostError as error:  # its machine went away meanwhile
            lost = error
            continue
        found.setdefault(kind, numerics)
    if lost is not None and not found:
        raise lost
    return plan.with_numerics(found)


def nodes_for(resources: Resources) -> list[Mapping[str, Any]]:
    """The nodes that hold a trial with `resources`; StudyError where there is none.

    A cluster has some time to bring one up.
    """
    until = time.monotonic() + float(os.environ.get("RAYSEARCH_MACHINE_WAIT_S", MACHINE_WAIT_S))
    while not (nodes := available_nodes(resources)):
        if cluster_address() is not None and time.monotonic() < until:
            time.sleep(1.0)
            continue
        if not any(node["Alive"] for node in ray.nodes()):
            raise StudyError("Ray has lost every machine; all is saved: go on with --resume")
        raise StudyError(
            f"no machine has the {resources.cpus:g} CPUs and {resources.gpus:g} GPUs that a trial"
            " takes; lower `resources` in the space, or wait for such a machine"
        )
    return nodes


def available_nodes(resources: Resources) -> list[Mapping[str, Any]]:
    """The nodes that hold a trial with `resources`, and were not told that they will go."""
    leaving = draining_nodes()
    return [
        node for node in ray.nodes() if slots_of(node, resources) and node["NodeID"] not in leaving
    ]


class WorkerLostError(StudyError):
    """A worker could not start, or went away with its machine."""


class ActorTask:
    """A function that runs on a node, and then, where it is asked to, the next one.

    By an actor, since the loss of its node is told at once: of a plain task Ray hears no more where
    the machine's cable is pulled.
    """

    def __init__(
        self, node: str, resources: Resources, function: Callable[..., Any], *arguments: Any
    ) -> None:
        self.node = node
        self._actor = (
            ray.remote(_Runner)
            .options(
                num_cpus=resources.cpus,
                num_gpus=resources.gpus,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            )
            .remote()
        )
        self.then(function, *arguments)

    def then(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Run another function in the same process, which is warm by now."""
        self.answer = self._actor.run.remote(function, *arguments)

    def result(self) -> Any:
        """What the function returns; what it raised is raised as it was there."""
        try:
            return ray.get(self.answer)
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            raise WorkerLostError(
                f"a worker could not start or went away ({_first_line(error)}); see the study's"
                " logs, then launch again"
            ) from None

    def end(self) -> None:
        """End its process, whatever runs in it."""
        ray.kill(self._actor)


def ended(tasks: Iterable[ActorTask], timeout_s: float) -> list[ActorTask]:
    """One of `tasks` that has ended; none where `timeout_s` is over before."""
    by_answer = {one.answer: one for one in tasks}
    done, _rest = ray.wait(list(by_answer), num_returns=1, timeout=timeout_s)
    return [by_answer[one] for one in done]


class _Runner:
    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def search(study: Study, job: Callable[[Mapping[str, Any]], None] = run_job) -> None:
    """Run the study's trials to their end by `job`; what they report is in its journal."""
    if study.ended():
        return
    resources = study.plan.space.resources
    study.listeners.append(_Demand(study).on_event)
    nodes_for(resources)
    searcher = StudySearcher(study, lambda: max(1, slots(resources)))
    # Tune would hand these to its workers in a way that Ray writes into its logs.
    class_cache.ENV_VARS_TO_PROPAGATE.difference_update(AWS_SECRETS)
    trainable = tune.with_resources(job, {"cpu": resources.cpus, "gpu": resources.gpus})
    # Tune keeps files of its own; nobody reads them again.
    with tempfile.TemporaryDirectory(prefix="raysearch-tune-") as scratch:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=StudyScheduler(study, searcher),
                num_samples=-1,
                # The searcher keeps to the slots there are; a cluster may grow.
                max_concurrent_trials=study.policy.trials + 1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="study",
                storage_path=scratch,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=MAX_WORKER_LOSSES),
            ),
        )
        try:
            tuner.fit()
        except Exception:
            if study.halted is None:
                raise
            log.exception("the search ended")
    study.finalize()
    if study.halted is not None:
        raise StudyError(f"{study.halted}; put it right, then go on with --resume")
    if not study.ended():
        raise StudyError(
            f"study {study.plan.name!r} stopped before its trials had ended; see its logs, then"
            " go on with --resume"
        )


def refit(study: Study, trial: Trial) -> None:
    """Train `trial` once more on all patients, on a worker; its weights are kept.

    TrainingFailedError where that cannot be done with these hyperparameters.
    """
    for losses in count(1):
        try:
            _refit_once(study, trial)
        except WorkerLostError:
            if losses > MAX_WORKER_LOSSES:
                raise
            log.warning("the machine that refitted %s was lost; another one does", trial.id)
        else:
            return


def _refit_once(study: Study, trial: Trial) -> None:
    wanted = study.plan.space.resources
    ask_for_machines(wanted, 1)
    # No trial runs beside it, so it may have a whole machine's cores.
    node = max(nodes_for(wanted), key=lambda one: one["Resources"]["CPU"])
    cores = max(node["Resources"]["CPU"], wanted.cpus)
    job = replace(job_of(study, trial), cpus=cores)
    resources = Resources(cores, wanted.gpus)
    found, tries = ActorTask(node["NodeID"], resources, refit_job, job, trial.objective).result()
    if tries > 1:
        study.warn(
            trial.id,
            f"its refit has {_worth(found)} on what it learned from, the best of {tries} seeds: the"
            " first one did worse there than the folds' nets did on others"
            f" ({_worth(trial.objective)})",
        )


def _worth(value: float | None) -> str:
    return "nothing defined" if value is None else f"{value:.4f}"


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
