"""The nodes that a search requests, and trials that share them."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Commands
from raysearch.search.engine import tune_search
from raysearch.search.engine.tune_search import REQUEST_FRACTION, NodeDemand
from raysearch.search.journal.events import TrialEnded, TrialStarted
from raysearch.search.journal.history import Trial
from raysearch.search.journal.journal import Journal
from raysearch.search.journal.study_folder import StudyFolder
from support.result_studies import TREE, new_study, next_searched, report_epochs, train_next

SPACE = """
epochs: 2
trials: 6
sampler: tpe
stopping: {rule: asha, grace_period: 2, paired_alpha: 0}
resources: {cpus: 0.5}
repeats: 0
space:
  folds: 2
  architecture: cnn
  convolutions: 1
  learning_rate: {loguniform: [1.0e-3, 1.0e-2]}
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_trials_share_the_cores_of_two_nodes(run_on_cluster: Commands) -> None:
    run = run_on_cluster
    (run.folder / "shared.yaml").write_text(SPACE)
    run("launch", "shared.yaml", "--data", "synthetic:12:240:3")
    running: set[str] = set()
    max_running = 0
    folder = StudyFolder(run.folder / "studies" / "shared")
    for event in Journal(folder / folder.JOURNAL).events:
        if isinstance(event, TrialStarted):
            running.add(event.trial)
        elif isinstance(event, TrialEnded):
            running.remove(event.trial)
        max_running = max(max_running, len(running))
    assert max_running == 4


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of trials of each request for nodes."""
    requests: list[int] = []
    monkeypatch.setattr(tune_search, "request_nodes", lambda _, trials: requests.append(trials))
    return requests


def test_nodes_are_requested_again_if_clearly_fewer_are_enough(
    shards: Path, tmp_path: Path, requests: list[int]
) -> None:
    num_trials = 60
    tree = TREE | {"trials": num_trials, "sampler": "random"}
    study = new_study(shards, tmp_path / "studies" / "demand", tree)
    study.add_listener(NodeDemand(study).on_event)
    for number in range(num_trials):
        train_next(study, 1)
        num_unfinished = num_trials - 1 - number
        # The last request is large enough, and hardly larger than that.
        assert num_unfinished <= requests[-1]
        assert num_unfinished > REQUEST_FRACTION * requests[-1] or requests[-1] == num_unfinished
    assert (requests[0], requests[-1]) == (num_trials, 0)
    assert requests == sorted(set(requests), reverse=True)
    assert len(requests) < 40  # one for each end would be 61


def test_there_are_slots_for_trials_that_were_paused(
    shards: Path, tmp_path: Path, requests: list[int]
) -> None:
    num_slots, tree = 4, TREE | {"trials": 12, "stopping": {"rule": "forest", "grace_period": 1}}
    study = new_study(shards, tmp_path / "studies" / "paused", tree)
    study.add_listener(NodeDemand(study).on_event)
    training: list[Trial] = [next_searched(study)]
    enough, num_promoted = [], 0
    while training:
        while len(training) < num_slots and (trial := study.next_trial()) is not None:
            num_promoted += trial.epoch > 0
            training.append(trial)
        enough.append(len(training) <= requests[-1])
        trial = training.pop(0)
        report_epochs(study, trial, 1)
        if trial.status == "running":
            training.append(trial)
    assert num_promoted
    assert all(enough)
    num_requests = len(requests)
    study.finalize()
    assert len(requests) - num_requests <= 2  # however many trials were paused at the end
