"""A study as an Optuna journal, read again by Optuna and by its dashboard."""

import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from raysearch.cli import run
from raysearch.errors import StudyError
from raysearch.search.journal.journal import of_kind
from raysearch.search.study.optuna_export import export_study
from raysearch.search.study.study import Study
from support.result_studies import TREE, new_study, next_searched, report, run_on

OPTUNAS = {"finished": "COMPLETE", "stopped": "PRUNED", "failed": "FAIL", "running": "RUNNING"}


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    """Trials in every state."""
    study = new_study(shards, tmp_path / "studies" / "seen")
    run_on(study, 8)
    study.fail(next_searched(study).id, "nan-loss")
    study.report(next_searched(study).id, report(1, 0.99))
    return study


def loaded(path: Path) -> optuna.Study:
    return optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(path))))


def test_optuna_reads_the_trials_as_they_were(study: Study, tmp_path: Path) -> None:
    export_study(study.plan, study.history, tmp_path / "a.log", study.journal.events)
    told, trials = loaded(tmp_path / "a.log"), study.history.searched()
    assert told.study_name == "seen"
    assert told.direction.name == "MAXIMIZE"
    assert told.metric_names == ["auroc"]
    assert [one.user_attrs["trial"] for one in told.trials] == [one.id for one in trials]
    assert {one.state.name for one in told.trials} == set(OPTUNAS.values())
    ended = {one["trial"]: one["at"] for one in of_kind(study.journal.events, "end")}
    for one, trial in zip(told.trials, trials, strict=True):
        assert trial.id == f"t{one.number:04d}"
        assert one.state.name == OPTUNAS[trial.status]
        assert one.params == {n: v for n, v in trial.hparams.items() if n not in FIXED}
        assert one.intermediate_values == {e["epoch"]: e["objective"] for e in trial.reports}
        assert one.user_attrs["reason"] == trial.reason
        assert one.user_attrs["seconds"] == trial.seconds
        assert one.user_attrs["batch_size"] == 32
        assert one.value == (trial.objective if trial.status == "finished" else None)
        assert one.datetime_start is not None
        assert one.datetime_start.timestamp() == pytest.approx(trial.started, abs=1e-3)
        assert told_end(one.datetime_complete) == pytest.approx(ended.get(trial.id), abs=1e-3)


FIXED = ("folds", "batch_size")


def told_end(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


def test_the_hyperparameters_keep_their_ranges(study: Study, tmp_path: Path) -> None:
    export_study(study.plan, study.history, tmp_path / "a.log")
    found = {
        name: one
        for trial in loaded(tmp_path / "a.log").trials
        for name, one in trial.distributions.items()
    }
    assert found == {
        "optimizer": optuna.distributions.CategoricalDistribution(("adamw", "sgd")),
        "momentum": optuna.distributions.FloatDistribution(0.5, 0.9),
        "learning_rate": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True),
        "width": optuna.distributions.IntDistribution(4, 16),
    }


def test_a_trial_that_waits_is_still_running_for_optuna(study: Study, tmp_path: Path) -> None:
    study.history.searched()[-1].status = "paused"
    export_study(study.plan, study.history, tmp_path / "a.log", study.journal.events)
    last = loaded(tmp_path / "a.log").trials[-1]
    assert (last.state.name, last.datetime_complete) == ("RUNNING", None)


def test_a_value_outside_its_range_is_an_attribute(study: Study, tmp_path: Path) -> None:
    trial = study.history.searched()[0]
    trial.hparams = {**trial.hparams, "width": 64}
    export_study(study.plan, study.history, tmp_path / "a.log")
    first = loaded(tmp_path / "a.log").trials[0]
    assert "width" not in first.params
    assert first.user_attrs["width"] == 64


def test_a_study_without_trials_is_written_too(shards: Path, tmp_path: Path) -> None:
    tree = TREE | {"objective": {"metric": "log_loss", "mode": "min"}}
    study = new_study(shards, tmp_path / "x", tree)
    assert export_study(study.plan, study.history, tmp_path / "a.log") == 0
    told = loaded(tmp_path / "a.log")
    assert (told.direction.name, told.trials) == ("MINIMIZE", [])


def test_a_file_that_is_there_is_not_written_over(study: Study, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("mine")
    with pytest.raises(StudyError, match=r"a\.log: there already"):
        export_study(study.plan, study.history, tmp_path / "a.log")
    assert (tmp_path / "a.log").read_text() == "mine"


def test_the_command_writes_it_and_leaves_nothing_else(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert study.plan.name == "seen"
    assert run(["results", "seen", "--optuna", "seen.log"]) == 0
    assert sorted(one.name for one in tmp_path.iterdir()) == ["seen.log", "studies"]
    assert run(["results", "seen", "--optuna", "seen.log"]) == 2
    assert "there already" in capsys.readouterr().err
    assert run(["results", "seen", "--optuna", "none/seen.log"]) == 2
    assert "no folder none" in capsys.readouterr().err


class Quiet(WSGIRequestHandler):
    def log_message(self, *_words: Any) -> None:
        pass


@pytest.fixture
def dashboard(study: Study, tmp_path: Path) -> Iterator[str]:
    """The address of an `optuna-dashboard` on the exported study."""
    from optuna_dashboard import wsgi

    export_study(study.plan, study.history, tmp_path / "a.log", study.journal.events)
    app = wsgi(JournalStorage(JournalFileBackend(str(tmp_path / "a.log"))))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with make_server("127.0.0.1", port, app, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{port}"
        server.shutdown()
        thread.join()


@pytest.mark.filterwarnings("ignore")
def test_the_dashboard_shows_every_trial(study: Study, dashboard: str) -> None:
    def get(path: str) -> Any:
        with urllib.request.urlopen(f"{dashboard}{path}", timeout=30) as answer:
            return json.loads(answer.read())

    [listed] = get("/api/studies")["study_summaries"]
    assert listed["study_name"] == "seen"
    shown = get(f"/api/studies/{listed['study_id']}")
    trials = study.history.searched()
    assert [one["state"].upper()[:4] for one in shown["trials"]] == [
        {"COMPLETE": "COMP", "PRUNED": "PRUN", "FAIL": "FAIL", "RUNNING": "RUNN"}[
            OPTUNAS[one.status]
        ]
        for one in trials
    ]
    for one, trial in zip(shown["trials"], trials, strict=True):
        assert [step["value"] for step in one["intermediate_values"]] == [
            report["objective"] for report in trial.reports
        ]
    assert {one["name"] for one in shown["union_search_space"]} == {
        "optimizer",
        "momentum",
        "learning_rate",
        "width",
    }
    assert get(f"/api/studies/{listed['study_id']}/param_importances")
