"""A study with damaged files is rejected, or is read unchanged."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from raysearch.config.space_file import parse_space
from raysearch.data.files import Folder
from raysearch.errors import StudyError
from raysearch.search.engine import reporter, worker_tasks
from raysearch.search.engine.worker_messages import WorkerMessage, WorkerWarning
from raysearch.search.journal.events import (
    FoldReport,
    StudyLaunched,
    TrialEnded,
    TrialStarted,
    TrialWarning,
)
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan_creation import make_plan
from raysearch.search.study.stored_study import read_plan, read_splits
from raysearch.search.study.study import Study, create_study
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
def stored(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A study of some hundred events with three running trials."""
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
        if not study.report(report(name, epoch, len(study.journal.events) / 1000)):
            running.remove(name)
    for number, name in enumerate(running):
        state = {
            "history": [{"epoch": 1, "objective": 0.5}],
            "model": {"w": torch.full((64,), number / 7)},
        }
        folder.write_checkpoint(name, pack(state))
    study.warn(running[0], 'an umlaut ä and a quote "')
    return folder


def report(trial: str, epoch: int, objective: float) -> FoldReport:
    metrics = {"auroc": objective, "f1": None}
    return FoldReport(trial, (epoch - 1) // 6, epoch, objective, metrics, 1.0, 0.1, host="b")


def content_of(folder: StudyFolder) -> str:
    """What a launcher and its workers read of the study, as text."""
    plan = read_plan(folder)
    study = Study(folder, plan)
    names = folder.names(folder.CHECKPOINTS)
    states = [unpack(folder.read(f"{folder.CHECKPOINTS}/{name}")) for name in names]
    return repr((plan, read_splits(folder, plan), study.journal.events, names, states))


def content_or_error(folder: StudyFolder) -> str:
    """The content of the study, or the error by which it is rejected."""
    try:
        return content_of(folder)
    except (StudyError, ValueError) as error:
        return f"rejected: {error}"


def corruptions(content: bytes, rng: random.Random) -> Callable[[], bytes]:
    """Gives damaged forms of `content`: one byte is another, or the end is missing."""
    lines = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]

    def flipped() -> bytes:
        place = rng.randrange(len(content))
        other = content[place] ^ rng.choice((1 << rng.randrange(8), rng.randrange(1, 256)))
        return content[:place] + bytes([other]) + content[place + 1 :]

    def cut() -> bytes:
        return content[: rng.choice((0, rng.randrange(len(content)), *lines[-70:]))]

    return lambda: flipped() if rng.random() < 2 / 3 else cut()


def count_rejections(folder: StudyFolder, count: int, seed: int) -> dict[str, int]:
    """Damage the study `count` times, one file at a time; how often each file was rejected."""
    rng, good = random.Random(seed), content_of(folder)
    paths = [folder.local / folder.PLAN, folder.local / folder.SPLITS]
    paths += [one for name in ("journal", "checkpoints") for one in (folder.local / name).iterdir()]
    whole = {path: path.read_bytes() for path in sorted(paths)}
    damage = {path: corruptions(content, rng) for path, content in whole.items()}
    rejected: dict[str, int] = {path.name: 0 for path in whole}
    for number in range(count):
        path = list(whole)[number % len(whole)]
        bad = damage[path]()
        path.write_bytes(bad)
        text = content_or_error(folder)
        path.write_bytes(whole[path])
        assert text == good or (text.startswith("rejected: ") and "\n" not in text), (
            path.name,
            text,
        )
        rejected[path.name] += text != good
    return rejected


def test_a_damaged_study_is_rejected_or_the_same(stored: StudyFolder) -> None:
    rejected = count_rejections(stored, 250, seed=1)
    assert len(rejected) >= 10
    assert all(rejected.values()), rejected


@pytest.mark.slow
@pytest.mark.long
def test_a_study_damaged_in_thousands_of_ways_is_rejected_or_the_same(stored: StudyFolder) -> None:
    rejected = count_rejections(stored, 4000, seed=2)
    assert sum(rejected.values()) > 2000


def test_the_stored_study_has_all_kinds_of_files(stored: StudyFolder) -> None:
    study = Study(stored, read_plan(stored))
    kinds = {type(event) for event in study.journal.events}
    assert kinds >= {StudyLaunched, TrialStarted, FoldReport, TrialEnded, TrialWarning}
    assert len(stored.names(stored.JOURNAL)) >= 4
    assert len(stored.names(stored.CHECKPOINTS)) == 3


def test_a_changed_plan_is_rejected(stored: StudyFolder) -> None:
    plan = json.loads(stored.read(stored.PLAN))
    plan["space"]["seed"] += 1
    other = Folder(stored.address + "-other")
    other.write(stored.PLAN, json.dumps(plan).encode())
    with pytest.raises(StudyError, match=r"plan\.json: damaged; restore the plan from a copy"):
        read_plan(StudyFolder(other.address))


def test_a_damaged_checkpoint_is_reported_and_the_trial_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[WorkerMessage] = []
    monkeypatch.setattr(reporter, "send_message", sent.append)
    folder = StudyFolder(tmp_path)
    assert worker_tasks.load_checkpoint(folder, "t0001") is None
    assert sent == []
    folder.write_checkpoint("t0001", pack({"model": {}})[:-1])
    with caplog.at_level(logging.WARNING):
        assert worker_tasks.load_checkpoint(folder, "t0001") is None
    path = folder.path("checkpoints/t0001.pt")
    assert sent == [
        WorkerWarning(
            f"{path}: the checkpoint's hash does not match its content; the trial starts from its"
            " first epoch"
        )
    ]
