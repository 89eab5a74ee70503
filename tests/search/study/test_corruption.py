"""A study whose files are damaged is rejected, or is the same study; it is never another one."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from raysearch.config.space_file import parse_space
from raysearch.data.files import Folder
from raysearch.errors import StudyError
from raysearch.search.engine import reporter
from raysearch.search.engine import worker_tasks as worker
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import make_plan
from raysearch.search.study.study import Study, create_study, read_plan, read_splits
from raysearch.training.checkpoint import pack, unpack

TREE = {
    "epochs": 6,
    "trials": 24,
    "seed": 5,
    "stopping": {"rule": "asha"},
    "space": {
        "folds": {"choice": [2, 3]},
        "optimizer": {"choice": ["adamw", "sgd"]},
        "momentum": {"uniform": [0.5, 0.9], "when": {"optimizer": "sgd"}},
        "learning_rate": {"loguniform": [1e-4, 1e-1]},
    },
}


@pytest.fixture(scope="module")
def made(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A study of some hundred events that was left with three trials under way."""
    folder = StudyFolder(tmp_path_factory.mktemp("studies") / "x")
    study = create_study(folder, *make_plan(parse_space(TREE, "x"), "x", str(shards)))
    study.begin()
    running: list[str] = []
    while len(study.journal.events) < 300:
        while len(running) < 3 and (trial := study.next_trial()) is not None:
            running.append(trial.id)
        name = running[len(study.journal.events) % len(running)]
        epoch = study.history.trials[name].epoch + 1
        # The later the better, so that most go on.
        if not study.report(name, report(epoch, len(study.journal.events) / 1000)):
            running.remove(name)
    for number, name in enumerate(running):
        state = {"history": [report(1, 0.5)], "model": {"w": torch.full((64,), number / 7)}}
        folder.keep(name, pack(state))
    study.warn(running[0], 'an umlaut ä and a quote "')
    return folder


def report(epoch: int, objective: float) -> dict[str, Any]:
    metrics = {"auroc": objective, "f1": None}
    fold = (epoch - 1) // 6
    rest = {"loss": 1.0, "metrics": metrics, "seconds": 0.1, "host": "b"}
    return {"epoch": epoch, "fold": fold, "objective": objective, **rest}


def told(folder: StudyFolder) -> str:
    """All that a launcher and its workers read of the study, as text."""
    plan = read_plan(folder)
    study = Study(folder, plan)
    names = folder.names(folder.CHECKPOINTS)
    states = [unpack(folder.read(f"{folder.CHECKPOINTS}/{name}")) for name in names]
    return repr((plan, read_splits(folder, plan), study.journal.events, names, states))


def answer(folder: StudyFolder) -> str:
    """What is told of the study, or how it is rejected."""
    try:
        return told(folder)
    except (StudyError, ValueError) as error:
        return f"rejected: {error}"


def corruptions(content: bytes, draw: random.Random) -> Callable[[], bytes]:
    """Gives damaged forms of `content`: one byte is another, or the end is missing."""
    lines = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]

    def flipped() -> bytes:
        place = draw.randrange(len(content))
        other = content[place] ^ draw.choice((1 << draw.randrange(8), draw.randrange(1, 256)))
        return content[:place] + bytes([other]) + content[place + 1 :]

    def cut() -> bytes:
        return content[: draw.choice((0, draw.randrange(len(content)), *lines[-70:]))]

    return lambda: flipped() if draw.random() < 2 / 3 else cut()


def kept_or_rejected(folder: StudyFolder, count: int, seed: int) -> dict[str, int]:
    """Damage the study `count` times, one file at a time; how often each file was rejected."""
    draw, good = random.Random(seed), told(folder)
    paths = [folder.local / folder.PLAN, folder.local / folder.SPLITS]
    paths += [one for name in ("journal", "checkpoints") for one in (folder.local / name).iterdir()]
    whole = {path: path.read_bytes() for path in sorted(paths)}
    damage = {path: corruptions(content, draw) for path, content in whole.items()}
    rejected: dict[str, int] = {path.name: 0 for path in whole}
    for number in range(count):
        path = list(whole)[number % len(whole)]
        bad = damage[path]()
        path.write_bytes(bad)
        said = answer(folder)
        path.write_bytes(whole[path])
        assert said == good or (said.startswith("rejected: ") and "\n" not in said), (
            path.name,
            said,
        )
        rejected[path.name] += said != good
    return rejected


def test_a_damaged_study_is_rejected_or_the_same(made: StudyFolder) -> None:
    rejected = kept_or_rejected(made, 250, seed=1)
    assert len(rejected) >= 10
    assert all(rejected.values()), rejected


@pytest.mark.slow
def test_a_study_damaged_in_thousands_of_ways_is_rejected_or_the_same(made: StudyFolder) -> None:
    rejected = kept_or_rejected(made, 4000, seed=2)
    assert sum(rejected.values()) > 2000


def test_the_made_study_has_what_a_real_one_has(made: StudyFolder) -> None:
    study = Study(made, read_plan(made))
    kinds = {event["event"] for event in study.journal.events}
    assert kinds >= {"launch", "trial", "report", "end", "warning"}
    assert len(made.names(made.JOURNAL)) >= 4
    assert len(made.names(made.CHECKPOINTS)) == 3


def test_every_byte_of_a_plan_counts(made: StudyFolder) -> None:
    plan = json.loads(made.read(made.PLAN))
    plan["space"]["seed"] += 1
    other = Folder(made.address + "-other")
    other.write(made.PLAN, json.dumps(plan).encode())
    with pytest.raises(StudyError, match=r"plan\.json: damaged; restore it from a copy"):
        read_plan(StudyFolder(other.address))


def test_a_damaged_checkpoint_is_told_to_the_study_and_the_trial_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr("ray.tune.report", sent.append)
    monkeypatch.setattr(reporter, "this_node", lambda: "node")
    folder = StudyFolder(tmp_path)
    assert worker._stored_state(folder, "t0001") is None
    assert sent == []
    folder.keep("t0001", pack({"model": {}})[:-1])
    with caplog.at_level(logging.WARNING):
        assert worker._stored_state(folder, "t0001") is None
    [warning] = sent
    assert warning["node"] == "node"
    assert warning["warning"] == (
        f"{folder.path('checkpoints/t0001.pt')}: the checkpoint's hash does not match its content;"
        " the trial begins again"
    )
