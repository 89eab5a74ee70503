"""How many trials a machine holds, and that they do run side by side."""

from pathlib import Path

import pytest
import yaml

from conftest import Commands
from raysearch.config.space import Resources
from raysearch.config.space_file import parse_space
from raysearch.errors import SpaceError, StudyError
from raysearch.search.engine import session as engine
from raysearch.search.engine.nodes import slots_of
from raysearch.search.journal.history import Trial
from raysearch.search.journal.journal import Journal
from raysearch.search.journal.study_folder import StudyFolder
from support.result_studies import TREE, feed, new_study, next_searched, run_on

SPACE = """
epochs: 2
trials: 6
sampler: tpe
stopping: {rule: asha, grace: 2, paired: 0}
resources: {cpus: 0.5}
repeats: 0
space:
  folds: 2
  architecture: cnn
  convolutions: 1
  learning_rate: {loguniform: [1.0e-3, 1.0e-2]}
"""


@pytest.mark.parametrize(
    ("cpus", "gpus", "trial", "held"),
    [
        (4, 0, Resources(1, 0), 4),
        (4, 0, Resources(0.5, 0), 8),
        (4, 1, Resources(1, 1), 1),
        (4, 1, Resources(1, 0.25), 4),
        (2, 1, Resources(1, 0.25), 2),
        (8, 1, Resources(1, 0.3), 3),
        # A trial lies on one device: .4 are left of each of the two.
        (8, 2, Resources(1, 0.6), 2),
        (8, 3, Resources(1, 0.5), 6),
        (0, 1, Resources(1, 0.5), 0),
        (4, 0, Resources(1, 0.5), 0),
    ],
)
def test_a_machine_holds_what_fits_its_cores_and_each_of_its_devices(
    cpus: float, gpus: float, trial: Resources, held: int
) -> None:
    node = {"Alive": True, "Resources": {"CPU": cpus, "GPU": gpus}}
    assert slots_of(node, trial) == held
    assert slots_of({**node, "Alive": False}, trial) == 0


@pytest.mark.parametrize("resources", ["gpus: 1.5", "gpus: 2", "cpus: 2.5"])
def test_resources_that_no_machine_gives_a_trial_are_rejected(resources: str) -> None:
    with pytest.raises(SpaceError, match=resources.partition(":")[0]):
        parse_space(yaml.safe_load(f"{{resources: {{{resources}}}, space: {{folds: 2}}}}"), "x")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_trials_share_the_cores_of_two_machines(run_on_cluster: Commands) -> None:
    run = run_on_cluster
    (run.folder / "shared.yaml").write_text(SPACE)
    run("launch", "shared.yaml", "--data", "synthetic:12:240:3")
    running: set[str] = set()
    most = 0
    folder = StudyFolder(run.folder / "studies" / "shared")
    for event in Journal(folder / folder.JOURNAL).events:
        if event["event"] == "trial":
            running.add(event["trial"])
        elif event["event"] == "end":
            running.remove(event["trial"])
        most = max(most, len(running))
    assert most == 4


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For how many trials machines were asked for, each time."""
    asked: list[int] = []
    monkeypatch.setattr(engine, "ask_for_machines", lambda _resources, trials: asked.append(trials))
    return asked


def test_machines_are_asked_for_anew_when_clearly_fewer_will_do(
    shards: Path, tmp_path: Path, asked: list[int]
) -> None:
    trials = 60
    tree = TREE | {"trials": trials, "sampler": "random"}
    study = new_study(shards, tmp_path / "studies" / "demand", tree)
    study.listeners.append(engine._Demand(study).on_event)
    for number in range(trials):
        run_on(study, 1)
        left = trials - 1 - number
        # What was asked for last is enough, and hardly more than that.
        assert left <= asked[-1]
        assert left > engine.FEWER * asked[-1] or asked[-1] == left
    assert (asked[0], asked[-1]) == (trials, 0)
    assert asked == sorted(set(asked), reverse=True)
    assert len(asked) < 40  # of 61 that an end each would have made


def test_there_is_room_for_trials_that_waited(
    shards: Path, tmp_path: Path, asked: list[int]
) -> None:
    slots, tree = 4, TREE | {"trials": 12, "stopping": {"rule": "forest", "grace": 1}}
    study = new_study(shards, tmp_path / "studies" / "waiting", tree)
    study.listeners.append(engine._Demand(study).on_event)
    training: list[Trial] = [next_searched(study)]
    enough, waited = [], 0
    while training:
        while len(training) < slots and (trial := study.next_trial()) is not None:
            waited += trial.epoch > 0
            training.append(trial)
        enough.append(len(training) <= asked[-1])
        trial = training.pop(0)
        feed(study, trial, 1)
        if trial.status == "running":
            training.append(trial)
    assert waited
    assert all(enough)
    before = len(asked)
    study.finalize()
    assert len(asked) - before <= 2  # however many waited to the end


def test_a_ray_without_a_machine_is_told_apart_from_one_that_is_too_small(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = {"NodeID": "one", "Alive": False, "Resources": {"CPU": 2.0}}
    monkeypatch.setattr("ray.nodes", lambda: [node])
    monkeypatch.setattr(engine, "draining_nodes", set)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    with pytest.raises(StudyError, match="Ray has lost every machine"):
        engine.nodes_for(Resources(cpus=1, gpus=0))
    node["Alive"] = True
    with pytest.raises(StudyError, match="no machine has the 4 CPUs"):
        engine.nodes_for(Resources(cpus=4, gpus=0))
    assert engine.nodes_for(Resources(cpus=1, gpus=0)) == [node]
