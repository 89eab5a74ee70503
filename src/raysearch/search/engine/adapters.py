"""Tune's searcher and scheduler, which only ask the study and pass on what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from raysearch.search.engine.worker import Job
from raysearch.search.history import Trial
from raysearch.search.study import Study


class StudySearcher(Searcher):  # type: ignore[misc]
    """Hands the study's next trial to Tune whenever fewer run than there are slots.

    It counts the running trials itself: Tune's own limiter would count paused ones too.
    """

    def __init__(self, study: Study, slots: Callable[[], int]) -> None:
        super().__init__()
        self._study, self._slots = study, slots
        self._running: set[str] = set()

    def set_max_concurrency(self, _max_concurrent: int) -> bool:
        """True: the limit is kept here."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's job; None while every slot is taken; FINISHED when none is left."""
        if len(self._running) >= self._slots():
            return None
        trial = self._study.next_trial()
        if trial is None:
            return str(Searcher.FINISHED)
        self._running.add(trial_id)
        return {"job": asdict(job_of(self._study, trial))}

    def on_trial_complete(self, trial_id: str, *_result: Any, **_more: Any) -> None:
        """A slot is free again; what the trial achieved came by the scheduler."""
        self._running.discard(trial_id)

    def save(self, _checkpoint_path: str) -> None:
        """Nothing: the journal is the only memory."""

    def restore(self, _checkpoint_path: str) -> None:
        """Nothing: the journal is the only memory."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Tune pickles its searcher for a restore that is never used.
        return (Searcher, ())


class StudyScheduler(FIFOScheduler):  # type: ignore[misc]
    """Passes each report to the study, and the study's decision to Tune."""

    def __init__(self, study: Study) -> None:
        super().__init__()
        self._study = study

    def on_trial_result(self, _controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """STOP where the trial is finished, stopped or failed; CONTINUE otherwise."""
        name = trial.config["job"]["trial"]
        if "failure" in result:
            self._study.fail(name, result["failure"])
        elif "report" in result and self._study.report(name, json.loads(result["report"])):
            return str(TrialScheduler.CONTINUE)
        return str(TrialScheduler.STOP)

    def on_trial_complete(self, _controller: Any, trial: Any, _result: Any) -> None:
        """A trial whose function returned before the study said so has failed."""
        self._study.fail(trial.config["job"]["trial"], "ended without a result")

    def on_trial_error(self, _controller: Any, trial: Any) -> None:
        """A trial that failed as often as it may."""
        self._study.fail(trial.config["job"]["trial"], "its worker was lost too often")

    def __reduce__(self) -> tuple[Any, ...]:
        return (FIFOScheduler, ())


def job_of(study: Study, trial: Trial) -> Job:
    """What a worker is told of `trial`."""
    return Job(
        study=study.folder.address,
        trial=trial.id,
        knobs=dict(trial.knobs),
        seed=trial.seed,
        folds=trial.folds,
        reported=trial.epoch,
        cpus=study.plan.space.resources.cpus,
    )
