"""Tune's searcher and scheduler, which only ask the study and pass on what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import ray
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from raysearch.search.engine.nodes import draining_nodes
from raysearch.search.engine.worker_tasks import Job
from raysearch.search.journal.history import Trial
from raysearch.search.study.study import Study


class StudySearcher(Searcher):  # type: ignore[misc]
    """Hands the study's next trial to Tune whenever fewer run than there are slots.

    It counts the running trials itself: Tune's own limiter would count paused ones too.
    """

    def __init__(self, study: Study, slots: Callable[[], int]) -> None:
        super().__init__()
        self._study, self._slots = study, slots
        # Tune's trials by their ids, as long as they hold a slot; None until Tune shows them.
        self._running: dict[str, Any] = {}

    def set_max_concurrency(self, _max_concurrent: int) -> bool:
        """True: the limit is kept here."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's job; None while every slot is taken; FINISHED when all is done."""
        self._put_back_the_lost()
        if len(self._running) >= self._slots():
            return None
        trial = self._study.next_trial()
        if trial is None:  # one that runs may yet be put back
            return None if self._running else str(Searcher.FINISHED)
        self._running[trial_id] = None
        return {"job": asdict(job_of(self._study, trial))}

    def on_trial_complete(self, trial_id: str, *_result: Any, **more: Any) -> None:
        """A slot is free again; what the trial achieved came by the scheduler.

        A trial that Tune gave up, and the scheduler did not, goes on later.
        """
        tune_trial = self._running.pop(trial_id, None)
        if more.get("error") and tune_trial is not None:
            self._study.requeue(tune_trial.config["job"]["trial"])

    def added(self, tune_trial: Any) -> None:
        """Tune has made `tune_trial` of a suggestion."""
        self._running[tune_trial.trial_id] = tune_trial

    def _put_back_the_lost(self) -> None:
        """Free the slots of trials that Tune gave up without a word: its actor was not reset."""
        for trial_id, tune_trial in list(self._running.items()):
            if tune_trial is not None and tune_trial.status == TuneTrial.ERROR:
                del self._running[trial_id]
                self._study.requeue(
                    tune_trial.config["job"]["trial"], "no worker was ready in time"
                )

    def save(self, _checkpoint_path: str) -> None:
        """Nothing: the journal is the only memory."""

    def restore(self, _checkpoint_path: str) -> None:
        """Nothing: the journal is the only memory."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Tune pickles its searcher for a restore that is never used.
        return (Searcher, ())


class StudyScheduler(FIFOScheduler):  # type: ignore[misc]
    """Passes each report to the study, and the study's decision to Tune."""

    def __init__(self, study: Study, searcher: StudySearcher) -> None:
        super().__init__()
        self._study, self._searcher = study, searcher
        # The node that each trial reported from last.
        self._nodes: dict[str, str] = {}
        self._new: list[TuneTrial] = []

    def on_trial_add(self, _controller: Any, trial: Any) -> None:
        """Tell the searcher, whose slots it takes."""
        self._searcher.added(trial)
        self._new.append(trial)

    def choose_trial_to_run(self, _controller: Any) -> TuneTrial | None:
        """A trial that nobody was asked to run yet.

        Given one that waits for a new actor, Tune would hand it any that is free and withdraw the
        new one: with short trials, a machine that joins would never come to train.
        """
        while self._new:
            trial = self._new.pop(0)
            if trial.status == TuneTrial.PENDING:
                return trial
        return None

    def on_trial_result(self, _controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """STOP where the trial is finished, stopped or failed; CONTINUE otherwise."""
        name = trial.config["job"]["trial"]
        if "node" in result:
            self._nodes[name] = result["node"]
        if "failure" in result:
            self._study.fail(name, result["failure"])
        elif "above" in result:
            self._study.stop(name, result["above"])
        elif "unable" in result:
            self._study.requeue(name, result["unable"])
        elif "warning" in result:
            self._study.warn(name, result["warning"])
            return str(TrialScheduler.CONTINUE)
        elif "report" in result and self._study.report(name, json.loads(result["report"])):
            return str(TrialScheduler.CONTINUE)
        return str(TrialScheduler.STOP)

    def on_trial_complete(self, _controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """A trial whose function returned before the study said so has failed."""
        if "unable" not in result and self._study.halted is None:
            self._study.fail(trial.config["job"]["trial"], "ended without a result")

    def on_trial_error(self, _controller: Any, trial: Any) -> None:
        """A trial that failed as often as it may; Tune says it of one that it will retry, too."""
        if self._node_is_gone(trial.config["job"]["trial"]):
            trial.max_failures += 1  # a lost machine is no error of the trial
        self._nodes.pop(trial.config["job"]["trial"], None)
        if not trial.should_recover():
            self._study.fail(trial.config["job"]["trial"], "its worker was lost too often")

    def _node_is_gone(self, trial: str) -> bool:
        here = {node["NodeID"] for node in ray.nodes() if node["Alive"]} - draining_nodes()
        return self._nodes.get(trial, "") not in here | {""}

    def __reduce__(self) -> tuple[Any, ...]:
        return (FIFOScheduler, ())


def job_of(study: Study, trial: Trial) -> Job:
    """What a worker is told of `trial`."""
    return Job(
        study=study.folder.address,
        data=study.plan.data,
        trial=trial.id,
        hparams=dict(trial.hparams),
        seed=trial.seed,
        folds=trial.folds,
        reported=trial.epoch,
        cpus=study.plan.space.resources.cpus,
    )
