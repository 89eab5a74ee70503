"""A study followed by its messages is the study itself."""

import json
from pathlib import Path

import pytest

from conftest import Commands
from raysearch.config.space_file import parse_space
from raysearch.search.journal.history import History, leaderboard
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan, make_plan
from raysearch.search.study.remote_view import (
    RemoteStudyView,
    end_message,
    mirror_of,
    phase_message,
    plan_message,
    read_message,
)
from raysearch.search.study.study import read_history, read_plan

SPACE = {"epochs": 2, "trials": 2, "space": {"folds": 2, "width": {"choice": [4, 8]}}}


@pytest.fixture
def plan(shards: Path) -> Plan:
    return make_plan(parse_space(SPACE, "space"), "mirror", str(shards))[0]


def test_a_message_reads_as_it_was_written(plan: Plan) -> None:
    assert read_message(phase_message("searching")) == ("phase", "searching")
    assert read_message(end_message({"champion": "t0001"})) == ("end", {"champion": "t0001"})
    kind, content = read_message(plan_message(plan)) or ("", {})
    assert kind == "plan"
    assert mirror_of(content).plan == plan


@pytest.mark.parametrize(
    "line", ["", "raysearch: no", '{"raysearch": ', '{"raysearch": "x"}', "{}"]
)
def test_any_other_line_is_none(line: str) -> None:
    assert read_message(line) is None


def test_an_event_that_comes_twice_counts_once(plan: Plan) -> None:
    mirror = RemoteStudyView(plan)
    heard: list[int] = []
    mirror.listeners.append(lambda event: heard.append(event["n"]))
    known = {"trial": "t0000", "kind": "trial", "hparams": {}, "seed": 1, "folds": 2}
    began = {"n": 0, "at": 1.0, "event": "trial", **known}
    epoch = {"epoch": 1, "fold": 0, "objective": 0.7, "loss": 0.5, "metrics": {}, "seconds": 1.0}
    report = {"n": 1, "at": 2.0, "event": "report", "trial": "t0000", "rung": False, **epoch}
    for event in (began, report, began, report):
        mirror.take(event)
    assert heard == [0, 1]
    assert mirror.history.trials["t0000"].epoch == 1
    assert mirror.whole(mirror.history.trials["t0000"]) == 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_whoever_reads_all_messages_knows_what_the_journal_knows(
    run: Commands, shards: Path
) -> None:
    (run.folder / "space.yaml").write_text(json.dumps(SPACE))
    said = run("launch", "space.yaml", "--data", str(shards), "--name", "told", "--events").stdout
    messages = [message for line in said.splitlines() if (message := read_message(line))]
    assert len(messages) == len(said.splitlines())
    kinds = [kind for kind, _ in messages]
    assert kinds[0] == "phase"
    assert kinds.count("plan") == kinds.count("end") == 1
    mirror = mirror_of(next(content for kind, content in messages if kind == "plan"))
    for kind, content in messages:
        if kind == "event":
            mirror.take(content)
    folder = StudyFolder(run.folder / "studies" / "told")
    assert mirror.plan == read_plan(folder)
    known: History = read_history(folder)
    assert leaderboard(mirror.history, "max") == leaderboard(known, "max")
    assert mirror.history.champion == known.champion == messages[-1][1]["champion"]
