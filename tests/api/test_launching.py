"""A study launched from Python, with real Ray and MLflow."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

import raysearch
from raysearch.api.command_process import run_command
from raysearch.errors import StudyError
from raysearch.search.journal.events import TrialStarted
from raysearch.search.journal.journal import Journal
from raysearch.search.journal.study_folder import StudyFolder
from support.empty_tracking_store import add_tracking_store

pytestmark = pytest.mark.filterwarnings("ignore")
SPACE = {
    "epochs": 2,
    "trials": 2,
    "seed": 4,
    "stopping": {"rule": "none"},
    "space": {"folds": 2, "architecture": "cnn", "width": 4, "convolutions": 1},
}


def test_an_error_of_the_command_is_an_exception(
    tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match="no data: the space names none"):
        raysearch.launch(raysearch.Space(**SPACE), progress=False)
    (tmp_path / "wrong.yaml").write_text("epochs: 0\nspace: {widht: 4}\n")
    with pytest.raises(StudyError, match=r"line 1(.|\n)*line 2"):
        raysearch.launch("wrong.yaml", shards, progress=False)
    with pytest.raises(StudyError, match="No such command 'lauch'"):
        run_command(["lauch"])
    with pytest.raises(StudyError, match="give the name of the study"):
        raysearch.launch("wrong.yaml", resume=True)
    with pytest.raises(StudyError, match=r"give a list, such as \['epochs=2'\]"):
        raysearch.launch("wrong.yaml", overrides="epochs=2")
    with pytest.raises(StudyError, match="--dry-run: not an override"):
        raysearch.launch("wrong.yaml", shards, overrides=["--dry-run"], progress=False)
    assert not (tmp_path / "studies").exists()


@pytest.mark.slow
def test_an_interrupted_launch_is_resumed(
    tmp_path: Path,
    shards: Path,
    cluster: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    add_tracking_store(tmp_path)
    space = raysearch.Space(**SPACE)
    folder = StudyFolder(tmp_path / "studies" / "study")
    has_ended = threading.Event()

    def interrupt_once_it_searches() -> None:
        while not has_ended.wait(0.1):
            events = Journal(folder / "journal").events if folder.exists(folder.PLAN) else []
            if any(isinstance(event, TrialStarted) for event in events):
                os.kill(os.getpid(), signal.SIGINT)
                return

    thread = threading.Thread(target=interrupt_once_it_searches)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            raysearch.launch(space, shards)
    finally:
        has_ended.set()
        thread.join()
    assert raysearch.load("study").champion is None
    study = raysearch.launch(space, shards, name="study", resume=True)
    assert "registering the champion" in capsys.readouterr().out
    assert study.champion is not None
    assert study.trials["kind"].tolist().count("trial") == 2
    objective = study.champion.objective
    assert objective is not None
    page = study.report(tmp_path / "page.html")
    assert page.read_text().lower().startswith("<!doctype html>")
    selected = study.select(threshold_by="f1", repeats=0)
    assert selected.objective == objective
    assert selected.threshold != study.champion.threshold or selected == study.champion
    assert len(study.scores()) == 240
