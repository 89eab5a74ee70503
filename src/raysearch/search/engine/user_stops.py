"""Records what the user requests of a running search, and ends the workers of stopped trials."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

import ray
from ray.tune.experiment import Trial as TuneTrial

from raysearch.errors import UserError
from raysearch.search.engine.worker_messages import task_from_config
from raysearch.search.study.stop_requests import apply_requests
from raysearch.search.study.study import Study

log = logging.getLogger(__name__)
LOCAL_INTERVAL_S = 1.0
# A list of the files of an object store costs money.
REMOTE_INTERVAL_S = 10.0


class UserStops:
    """Reads the requests in the study's folder from time to time.

    The worker of a stopped trial is killed: its fold-epoch may take hours. Its slot then starts
    another worker.

    Args:
        study: The study.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._interval_s = LOCAL_INTERVAL_S if study.folder.is_local else REMOTE_INTERVAL_S
        self._last_read_s = -self._interval_s
        # The trials whose workers are still to be killed.
        self._stopped: set[str] = set()

    def apply(self, tune_trials: Iterable[TuneTrial | None]) -> None:
        """Record new requests, and kill the workers of the trials that ended by them.

        Args:
            tune_trials: The trials that use a slot; None for one that Tune has not created yet.
        """
        if time.monotonic() - self._last_read_s >= self._interval_s:
            self._last_read_s = time.monotonic()
            self._read_requests()
        if not self._stopped:
            return
        for tune_trial in tune_trials:
            if tune_trial is not None and tune_trial.status == TuneTrial.RUNNING:
                self._kill_if_stopped(tune_trial)

    def _read_requests(self) -> None:
        history = self._study.history
        unfinished = [*history.running(), *history.paused()]
        try:
            apply_requests(self._study)
        except (OSError, UserError) as error:
            if self._study.halt_reason is not None:  # the journal cannot be written
                raise
            log.warning("the requests of the user cannot be read; the next step tries: %s", error)
        finally:  # an error may come after the record of a request
            self._stopped.update(trial.id for trial in unfinished if trial.status == "stopped")

    def _kill_if_stopped(self, tune_trial: TuneTrial) -> None:
        name = task_from_config(tune_trial.config).trial
        actor = tune_trial.temporary_state.ray_actor
        if name not in self._stopped or actor is None:
            return
        self._stopped.remove(name)
        # Tune would start the trial again.
        tune_trial.max_failures = tune_trial.run_metadata.num_failures
        ray.kill(actor)
