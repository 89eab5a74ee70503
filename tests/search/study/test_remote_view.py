"""A study followed by its messages is the study itself."""

import json
from pathlib import Path

import pytest

from conftest import Commands
from raysearch.cli.launch_log import LaunchLog
from raysearch.config.space_file import parse_space
from raysearch.data.step_progress import StepProgress
from raysearch.errors import StudyError
from raysearch.search.journal.events import FoldReport, TrialStarted
from raysearch.search.journal.history import leaderboard
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan
from raysearch.search.study.plan_creation import make_plan
from raysearch.search.study.remote_view import (
    EndMessage,
    EventMessage,
    Message,
    PlanMessage,
    ProgressMessage,
    RemoteStudyView,
    StatusMessage,
    read_message,
    write_message,
)
from raysearch.search.study.stored_study import load_study
from raysearch.selection.stored_intervals import read_intervals

SPACE = {"epochs": 2, "trials": 2, "space": {"folds": 2, "width": {"choice": [4, 8]}}}
STARTED = TrialStarted("t0000", "trial", {}, 1, 2, number=0, time=1.0)
REPORT = FoldReport("t0000", 0, 1, 0.7, {}, 0.5, 1.0, number=1, time=2.0)


@pytest.fixture
def plan(shards: Path) -> Plan:
    return make_plan(parse_space(SPACE, "space"), "remote", str(shards))[0]


@pytest.mark.parametrize(
    "message",
    [
        StatusMessage("searching"),
        ProgressMessage(StepProgress("refitting t0000", 2.5, 8, "epochs"), 1000.5),
        EventMessage(STARTED),
        EventMessage(REPORT),
        EndMessage({"champion": "t0001"}),
    ],
)
def test_a_message_comes_back_from_its_line(message: Message) -> None:
    assert read_message(write_message(message)) == message


def test_a_plan_comes_back_from_its_line(plan: Plan) -> None:
    assert read_message(write_message(PlanMessage(plan))) == PlanMessage(plan)


@pytest.mark.parametrize(
    "line",
    [
        *("", "raysearch: no", '{"raysearch": ', '{"raysearch": "x"}', "{}"),
        '{"raysearch": "x", "content": 1}',
    ],
)
def test_any_other_line_is_no_message(line: str) -> None:
    assert read_message(line) is None


def test_a_message_of_another_version_is_an_error() -> None:
    with pytest.raises(StudyError, match="use the version of raysearch that runs on the cluster"):
        read_message('{"raysearch": "event", "content": {}}')


def test_a_repeated_event_counts_once(plan: Plan) -> None:
    view = RemoteStudyView(plan)
    numbers: list[int] = []
    view.add_listener(lambda event: numbers.append(event.number))
    for event in (STARTED, REPORT, STARTED, REPORT):
        view.apply(event)
    assert numbers == [0, 1]
    assert view.history.trials["t0000"].epoch == 1
    assert view.total_fold_epochs(view.history.trials["t0000"]) == 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_messages_of_a_launch_rebuild_its_study(run: Commands, shards: Path) -> None:
    (run.folder / "space.yaml").write_text(json.dumps(SPACE))
    words = ("launch", "space.yaml", "--data", str(shards), "--name", "followed", "--events")
    lines = run(*words).stdout.splitlines()
    messages = [message for line in lines if (message := read_message(line))]
    assert len(messages) == len(lines)
    assert isinstance(messages[0], StatusMessage)
    (plan_message,) = [message for message in messages if isinstance(message, PlanMessage)]
    (end_message,) = [message for message in messages if isinstance(message, EndMessage)]
    view = RemoteStudyView(plan_message.plan)
    for message in messages:
        if isinstance(message, EventMessage):
            view.apply(message.event)
    stored_folder = StudyFolder(run.folder / "studies" / "followed")
    stored = load_study(stored_folder)
    assert view.plan == stored.plan
    assert leaderboard(view.history, view.plan.space) == leaderboard(
        stored.history, stored.plan.space
    )
    assert view.history.champion == stored.history.champion == end_message.outcome["champion"]
    log = LaunchLog()
    events = [line for line in lines if isinstance(read_message(line), EventMessage)]
    for line in (*lines, events[-1]):  # after a reconnection, lines come again
        log.read(line)
    snapshot = log.snapshot()
    assert snapshot is not None
    assert snapshot.events == list(stored.events)
    assert log.intervals() == read_intervals(stored_folder, stored.history) != {}
