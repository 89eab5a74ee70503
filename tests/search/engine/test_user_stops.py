"""The requests of the user during a search."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.tune.experiment import Trial as TuneTrial

from raysearch.search.engine.user_stops import UserStops
from raysearch.search.engine.worker_messages import task_to_config, trial_task
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.stop_requests import trial_request, write_requests
from support.result_studies import new_study, next_searched


def test_the_worker_of_a_stopped_trial_is_killed_also_if_its_request_cannot_be_removed(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = new_study(shards, tmp_path / "studies" / "first")
    stopped, other = next_searched(study), next_searched(study)
    write_requests(study.folder, [trial_request(study.plan.identity, study.history, stopped.id)])

    def fail(_folder: StudyFolder, _name: str) -> None:
        raise OSError("the disk does not answer")

    monkeypatch.setattr(StudyFolder, "remove", fail)
    killed: list[str] = []
    monkeypatch.setattr(ray, "kill", killed.append)
    tune_trials: list[Any] = [
        SimpleNamespace(
            status=TuneTrial.RUNNING,
            config=task_to_config(trial_task(study, trial)),
            temporary_state=SimpleNamespace(ray_actor=f"the worker of {trial.id}"),
            run_metadata=SimpleNamespace(num_failures=2),
            max_failures=None,
        )
        for trial in (stopped, other)
    ]
    user_stops = UserStops(study)
    user_stops.apply(tune_trials)
    assert killed == [f"the worker of {stopped.id}"]
    assert tune_trials[0].max_failures == 2
    assert (stopped.status, other.status) == ("stopped", "running")
