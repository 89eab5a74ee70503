"""Runs a study's trials by Ray Tune; its searcher and scheduler relay the study's decisions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from raysearch.data.scratch_folder import scratch_folder
from raysearch.errors import StudyError
from raysearch.search.engine.memory_losses import MemoryWatch
from raysearch.search.engine.nodes import (
    all_nodes,
    draining_node_ids,
    num_slots,
    request_nodes,
    wait_for_nodes,
)
from raysearch.search.engine.tune_failures import handle_all_losses, last_failure
from raysearch.search.engine.user_stops import UserStops
from raysearch.search.engine.worker_messages import (
    TrialFailed,
    TrialRejected,
    TuneValues,
    WorkerUnavailable,
    WorkerWarning,
    message_from_result,
    node_from_result,
    task_from_config,
    task_to_config,
    trial_task,
)
from raysearch.search.engine.worker_pool import MAX_WORKER_LOSSES
from raysearch.search.engine.worker_stalls import workers_expected
from raysearch.search.engine.worker_tasks import run_trial
from raysearch.search.journal.events import Event, FoldReport, TrialEnded
from raysearch.search.study.study import Study
from raysearch.training.failures import OUT_OF_MEMORY

log = logging.getLogger(__name__)
# Nodes are requested again if at most this fraction of the requested trials is left.
REQUEST_FRACTION = 0.95
AWS_SECRETS = {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}


def run_search(study: Study, run: Callable[[TuneValues], None] = run_trial) -> None:
    """Run the study's trials to their end; the journal stores what they report.

    Args:
        study: The study.
        run: The function that Tune runs for each trial, with the trial's configuration.

    Raises:
        StudyError: If the study halts before all trials have ended, or no node can run a trial.
    """
    if study.ended():
        return
    resources = study.plan.space.resources
    study.add_listener(NodeDemand(study).on_event)
    wait_for_nodes(resources)
    searcher = StudySearcher(study, lambda: max(1, num_slots(resources)))
    # Tune would pass these to its workers in a way that Ray writes into its logs.
    class_cache.ENV_VARS_TO_PROPAGATE.difference_update(AWS_SECRETS)
    handle_all_losses()
    # Tune writes files of its own, which are never read.
    with scratch_folder("rs-tune-") as storage:
        tuner = tune.Tuner(
            tune.with_resources(run, {"cpu": resources.cpus, "gpu": resources.gpus}),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=StudyScheduler(study, searcher),
                num_samples=-1,
                # The searcher limits the trials to the slots; a cluster may grow.
                max_concurrent_trials=study.policy.num_trials + 1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="study",
                storage_path=str(storage),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=MAX_WORKER_LOSSES),
            ),
        )
        try:
            with workers_expected():
                tuner.fit()
        except Exception:
            if study.halt_reason is None:
                raise
            log.exception("the search ended with an error")
    study.finalize()
    if study.halt_reason is not None:
        raise StudyError(f"{study.halt_reason}; fix it, then resume with --resume")
    if not study.ended():
        raise StudyError(
            f"study {study.plan.name!r} stopped before its trials had ended; see its logs, then"
            " resume with --resume"
        )


class NodeDemand:
    """Requests nodes for the unfinished trials whenever there are more, or clearly fewer, of them.

    Args:
        study: The study.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._num_requested: int | None = None
        self._update()

    def on_event(self, event: Event) -> None:
        """Update the request after the end of a trial."""
        if isinstance(event, TrialEnded):
            self._update()

    def _update(self) -> None:
        """Request nodes again if the number of unfinished trials grew or shrank enough.

        Unfinished are the trials that have not started, those that train, and one paused trial,
        which replaces the trial that ended. A request for thousands of trials takes tens of
        milliseconds.
        """
        history = self._study.history
        num_training = sum(trial.kind == "trial" for trial in history.running())
        num_unfinished = self._study.policy.num_trials - len(history.searched()) + num_training
        num_unfinished += bool(history.paused())
        requested = self._num_requested
        if (
            requested is None
            or num_unfinished > requested
            or (num_unfinished <= REQUEST_FRACTION * requested and num_unfinished < requested)
        ):
            request_nodes(self._study.plan.space.resources, num_unfinished)
            self._num_requested = num_unfinished


class StudySearcher(Searcher):  # type: ignore[misc]
    """Suggests the study's next trial whenever fewer trials run than there are slots.

    It counts the running trials itself: Tune's own limiter would count paused trials too.

    Args:
        study: The study.
        num_slots: Returns the number of slots.
    """

    def __init__(self, study: Study, num_slots: Callable[[], int]) -> None:
        super().__init__()
        self._study, self._num_slots = study, num_slots
        # Tune's trials by id while they use a slot; None until Tune has created the trial.
        self._running: dict[str, Any] = {}

    def set_max_concurrency(self, _max_concurrent: int) -> bool:
        """Return True: this class limits the concurrency."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next trial's configuration; None if no slot is free; FINISHED at the end."""
        self._requeue_lost_trials()
        if len(self._running) >= self._num_slots():
            return None
        trial = self._study.next_trial()
        if trial is None:  # a running trial may still be requeued
            return None if self._running else str(Searcher.FINISHED)
        self._running[trial_id] = None
        return task_to_config(trial_task(self._study, trial))

    def on_trial_complete(self, trial_id: str, *_result: Any, **options: Any) -> None:
        """Free the slot of a trial; requeue the trial if Tune gave it up and the study did not.

        The scheduler receives the trial's results.
        """
        tune_trial = self._running.pop(trial_id, None)
        if options.get("error") and tune_trial is not None:
            self._study.requeue(_trial_name(tune_trial))

    @property
    def tune_trials(self) -> list[TuneTrial | None]:
        """The trials that use a slot; None for one that Tune has not created yet."""
        return list(self._running.values())

    def add(self, tune_trial: TuneTrial) -> None:
        """Remember the trial that Tune created for a suggestion."""
        self._running[tune_trial.trial_id] = tune_trial

    def _requeue_lost_trials(self) -> None:
        """Free the slots of trials that Tune ended without a call because no actor was ready."""
        for trial_id, tune_trial in list(self._running.items()):
            if tune_trial is not None and tune_trial.status == TuneTrial.ERROR:
                del self._running[trial_id]
                self._study.requeue(_trial_name(tune_trial), "no worker was ready in time")

    def save(self, _checkpoint_path: str) -> None:
        """Save nothing: the journal holds the state."""

    def restore(self, _checkpoint_path: str) -> None:
        """Restore nothing: the journal holds the state."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Tune pickles its searcher for a restore that is never used.
        return (Searcher, ())


class StudyScheduler(FIFOScheduler):  # type: ignore[misc]
    """Passes each message of a worker to the study, and the study's decision to Tune.

    Args:
        study: The study.
        searcher: The searcher that suggests the study's trials.
    """

    def __init__(self, study: Study, searcher: StudySearcher) -> None:
        super().__init__()
        self._study, self._searcher = study, searcher
        # The node of each trial's last message.
        self._node_ids: dict[str, str] = {}
        # The state of the machine at each trial's start, or at its last message.
        self._memory: dict[str, MemoryWatch] = {}
        self._new_trials: list[TuneTrial] = []
        self._user_stops = UserStops(study)

    def on_trial_add(self, _controller: Any, trial: Any) -> None:
        """Tell the searcher which trial Tune created for its suggestion."""
        self._searcher.add(trial)
        self._new_trials.append(trial)

    def choose_trial_to_run(self, _controller: Any) -> TuneTrial | None:
        """Return a trial that this method has not returned before.

        If it returned a trial that waits for a new actor, Tune would assign any free actor to the
        trial and cancel the new actor: with short trials, a node that joins would never train.

        Tune calls it in each of its steps, so that the user's requests are read here, too.
        """
        self._user_stops.apply(self._searcher.tune_trials)
        while self._new_trials:
            trial = self._new_trials.pop(0)
            if trial.status == TuneTrial.PENDING:
                self._memory[_trial_name(trial)] = MemoryWatch()
                return trial
        return None

    def on_trial_result(self, _controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return STOP if the trial has ended or pauses or its worker is unavailable."""
        name = _trial_name(trial)
        node_id = node_from_result(result)
        if node_id is not None:
            self._node_ids[name] = node_id
        self._memory[name] = MemoryWatch()
        if self._continues(name, result):
            return str(TrialScheduler.CONTINUE)
        return str(TrialScheduler.STOP)

    def _continues(self, trial: str, result: TuneValues) -> bool:
        match message_from_result(result):
            case FoldReport() as report:
                return self._study.report(report)
            case WorkerWarning(text):
                self._study.warn(trial, text)
                return True
            case TrialFailed(reason):
                self._study.fail(trial, reason)
            case TrialRejected(reason):
                self._study.stop(trial, reason)
            case WorkerUnavailable(reason):
                self._study.requeue(trial, reason)
            case None:
                pass
        return False

    def on_trial_complete(self, _controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Fail a trial whose function returned before the study stopped it."""
        unavailable = isinstance(message_from_result(result), WorkerUnavailable)
        if not unavailable and self._study.halt_reason is None:
            self._study.fail(_trial_name(trial), "ended without a result")

    def on_trial_error(self, _controller: Any, trial: Any) -> None:
        """Fail a trial that lost its worker too often; Tune also calls this before a retry."""
        name = _trial_name(trial)
        if self._is_node_lost(name):
            trial.max_failures += 1  # the loss of a node is no failure of the trial
        watch = self._memory.pop(name, None)
        node_id = self._node_ids.pop(name, None)
        memory = watch.loss_reason(last_failure(trial), node_id) if watch else ""
        if not trial.should_recover():
            lost = "its worker was lost too often"
            self._study.fail(name, f"{OUT_OF_MEMORY}: {memory}" if memory else lost)
        elif memory:  # another process may have used the memory: once more, and no more than that
            trial.max_failures = min(trial.max_failures, trial.run_metadata.num_failures)

    def _is_node_lost(self, trial: str) -> bool:
        if trial not in self._node_ids:
            return False
        alive = {node.id for node in all_nodes() if node.alive}
        return self._node_ids[trial] not in alive - draining_node_ids()

    def __reduce__(self) -> tuple[Any, ...]:
        return (FIFOScheduler, ())


def _trial_name(tune_trial: Any) -> str:
    return task_from_config(tune_trial.config).trial
