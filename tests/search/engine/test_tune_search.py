"""The nodes that a search requests, trials that share them, and trials that lose their worker."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from ray import cloudpickle
from ray.exceptions import RayActorError
from ray.train._internal import storage
from ray.tune.experiment import Trial as TuneTrial

from conftest import Commands
from raysearch.search.engine import memory_losses, tune_search
from raysearch.search.engine.ray_session import ray_session
from raysearch.search.engine.tune_search import (
    REQUEST_FRACTION,
    NodeDemand,
    StudyScheduler,
    StudySearcher,
    run_search,
)
from raysearch.search.engine.worker_messages import TuneValues, task_to_config, trial_task
from raysearch.search.engine.worker_pool import MAX_WORKER_LOSSES
from raysearch.search.journal.events import TrialEnded, TrialStarted
from raysearch.search.journal.history import Trial
from raysearch.search.journal.journal import Journal
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.study import Study
from raysearch.training.failures import OUT_OF_MEMORY
from support.result_studies import TREE, new_study, next_searched, report_epochs, train_next

SPACE = """
epochs: 8
trials: 6
sampler: tpe
stopping: {rule: asha, grace_period: 8, paired_alpha: 0}
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


LOW_MEMORY = "Task was killed due to the node running low on memory."


def start_in_tune(study: Study, folder: Path) -> tuple[StudyScheduler, TuneTrial]:
    """Start the next trial of a study as Tune does; return the scheduler and Tune's trial."""
    searcher = StudySearcher(study, lambda: 1)
    scheduler = StudyScheduler(study, searcher)
    context = storage.StorageContext(str(folder), "study", trial_dir_name="trial")
    trial = TuneTrial(
        "trial",
        config=task_to_config(trial_task(study, next_searched(study))),
        storage=context,
        max_failures=MAX_WORKER_LOSSES,
        stub=True,
    )
    Path(context.trial_driver_staging_path).mkdir(parents=True)
    return scheduler, trial


def lose_workers(scheduler: StudyScheduler, trial: TuneTrial, *texts: str) -> list[bool]:
    """Let a trial lose its worker once for each text; return whether Tune starts it again."""
    starts = []
    for text in texts:
        scheduler.on_trial_add(None, trial)
        assert [scheduler.choose_trial_to_run(None)] == [trial]
        trial.handle_error(RayActorError(error_msg=text))
        recovers = trial.should_recover()  # Tune decides before it calls the scheduler
        scheduler.on_trial_error(None, trial)
        starts.append(recovers)
    return starts


@pytest.mark.parametrize(
    ("texts", "starts"),
    [
        (["gone"] * 4, [True, True, True, False]),
        ([LOW_MEMORY] * 2, [True, False]),
        # The file of errors has the earlier loss, too: it must not explain a later one.
        ([LOW_MEMORY, "gone"], [True, False]),
        (["gone", LOW_MEMORY, LOW_MEMORY], [True, True, False]),
    ],
)
def test_a_trial_that_lost_its_worker_for_lack_of_memory_starts_once_more(
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    texts: list[str],
    starts: list[bool],
) -> None:
    session = str(tmp_path / "session")  # Ray is not started
    monkeypatch.setattr(storage, "_get_ray_train_session_dir", lambda: session)
    study = new_study(shards, tmp_path / "studies" / "lost")
    scheduler, tune_trial = start_in_tune(study, tmp_path / "tune")
    assert lose_workers(scheduler, tune_trial, *texts) == starts
    (trial,) = study.history.searched()
    assert trial.status == "failed"
    assert (trial.reason or "").startswith(OUT_OF_MEMORY) == (texts[-1] == LOW_MEMORY)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_starts_a_trial_twice_if_the_kernel_ends_its_worker_for_lack_of_memory(
    cluster: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters, attempts = tmp_path / "vmstat", tmp_path / "attempts"
    counters.write_text("oom_kill 0\n")
    attempts.mkdir()
    monkeypatch.setattr(memory_losses, "KERNEL_COUNTERS", counters)
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    monkeypatch.setattr(tune_search, "request_nodes", lambda *_: None)
    study = new_study(shards, tmp_path / "studies" / "lost", TREE | {"trials": 1})
    cloudpickle.register_pickle_by_value(__import__(__name__, fromlist=["TREE"]))

    def run_out_of_memory(_config: TuneValues) -> None:
        (attempts / str(os.getpid())).touch()
        # One line a process, appended: trials that end at the same time lose no count.
        with counters.open("a") as file:
            file.write("oom_kill 1\n")
        os.kill(os.getpid(), signal.SIGKILL)

    with ray_session():
        run_search(study, run_out_of_memory)
    trials = study.history.trials.values()
    assert {trial.status for trial in trials} == {"failed"}
    reasons = [trial.reason or "" for trial in trials]
    assert all(reason.startswith(OUT_OF_MEMORY) for reason in reasons), reasons
    assert len(list(attempts.iterdir())) == 2 * len(reasons)
