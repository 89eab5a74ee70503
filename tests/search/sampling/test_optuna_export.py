"""An exported study is read by Optuna and by its dashboard."""

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
from raysearch.search.journal.events import TrialEnded
from raysearch.search.sampling.optuna_export import ExportedStudy, export_study
from raysearch.search.study.study import Study
from support.result_studies import TREE, fold_report, new_study, next_searched, train_next

OPTUNA_STATES = {
    "finished": "COMPLETE",
    "stopped": "PRUNED",
    "failed": "FAIL",
    "running": "RUNNING",
}


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    """Trials in every state."""
    study = new_study(shards, tmp_path / "studies" / "exported")
    train_next(study, 8)
    study.fail(next_searched(study).id, "nan-loss")
    study.report(fold_report(next_searched(study).id, 1, 0.99))
    return study


def export(study: Study, path: Path) -> int:
    plan = study.plan
    exported = ExportedStudy(plan.name, plan.space, plan.fingerprint, plan.identity, study.history)
    return export_study(exported, path)


def loaded(path: Path) -> optuna.Study:
    return optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(path))))


def test_epochs_are_of_the_study_or_of_each_trial(
    study: Study, shards: Path, tmp_path: Path
) -> None:
    export(study, tmp_path / "a.log")
    assert loaded(tmp_path / "a.log").user_attrs["epochs"] == 4
    tree = {key: value for key, value in TREE.items() if key != "epochs"}
    tree["space"] = {**TREE["space"], "epochs": {"choice": [2, 4]}}
    searched = new_study(shards, tmp_path / "studies" / "searched", tree)
    next_searched(searched)
    export(searched, tmp_path / "b.log")
    optuna_study = loaded(tmp_path / "b.log")
    assert "epochs" not in optuna_study.user_attrs
    assert optuna_study.trials[0].params["epochs"] in (2, 4)


def test_optuna_reads_the_exported_trials(study: Study, tmp_path: Path) -> None:
    export(study, tmp_path / "a.log")
    optuna_study, trials = loaded(tmp_path / "a.log"), study.history.searched()
    assert optuna_study.study_name == "exported"
    assert optuna_study.direction.name == "MAXIMIZE"
    assert optuna_study.metric_names == ["auroc"]
    assert [trial.user_attrs["trial"] for trial in optuna_study.trials] == [
        trial.id for trial in trials
    ]
    assert {trial.state.name for trial in optuna_study.trials} == set(OPTUNA_STATES.values())
    end_times = {
        event.trial: event.time for event in study.journal.events if isinstance(event, TrialEnded)
    }
    for optuna_trial, trial in zip(optuna_study.trials, trials, strict=True):
        assert trial.id == f"t{optuna_trial.number:04d}"
        assert optuna_trial.state.name == OPTUNA_STATES[trial.status]
        assert optuna_trial.params == {n: v for n, v in trial.hparams.items() if n not in FIXED}
        assert optuna_trial.intermediate_values == {
            report.epoch: report.objective for report in trial.reports
        }
        assert optuna_trial.user_attrs["reason"] == trial.reason
        assert optuna_trial.user_attrs["seconds"] == trial.seconds
        assert optuna_trial.user_attrs["batch_size"] == 32
        assert optuna_trial.value == (trial.objective if trial.status == "finished" else None)
        assert optuna_trial.datetime_start is not None
        assert optuna_trial.datetime_start.timestamp() == pytest.approx(trial.started, abs=1e-3)
        assert timestamp(optuna_trial.datetime_complete) == pytest.approx(
            end_times.get(trial.id), abs=1e-3
        )


FIXED = ("folds", "batch_size")


def timestamp(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


def test_the_hyperparameters_keep_their_ranges(study: Study, tmp_path: Path) -> None:
    export(study, tmp_path / "a.log")
    distributions = {
        name: distribution
        for trial in loaded(tmp_path / "a.log").trials
        for name, distribution in trial.distributions.items()
    }
    assert distributions == {
        "optimizer": optuna.distributions.CategoricalDistribution(("adamw", "sgd")),
        "momentum": optuna.distributions.FloatDistribution(0.5, 0.9),
        "learning_rate": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True),
        "width": optuna.distributions.IntDistribution(4, 16),
    }


def test_a_paused_trial_is_running_for_optuna(study: Study, tmp_path: Path) -> None:
    study.history.searched()[-1].status = "paused"
    export(study, tmp_path / "a.log")
    last = loaded(tmp_path / "a.log").trials[-1]
    assert (last.state.name, last.datetime_complete) == ("RUNNING", None)


def test_a_value_outside_its_range_is_an_attribute(study: Study, tmp_path: Path) -> None:
    trial = study.history.searched()[0]
    trial.hparams = {**trial.hparams, "width": 64}
    export(study, tmp_path / "a.log")
    first = loaded(tmp_path / "a.log").trials[0]
    assert "width" not in first.params
    assert first.user_attrs["width"] == 64


def test_a_study_without_trials_is_exported(shards: Path, tmp_path: Path) -> None:
    tree = TREE | {"objective": {"metric": "log_loss", "mode": "min"}}
    study = new_study(shards, tmp_path / "x", tree)
    assert export(study, tmp_path / "a.log") == 0
    optuna_study = loaded(tmp_path / "a.log")
    assert (optuna_study.direction.name, optuna_study.trials) == ("MINIMIZE", [])


def test_an_existing_file_is_not_overwritten(study: Study, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("mine")
    with pytest.raises(StudyError, match=r"a\.log: the file exists"):
        export(study, tmp_path / "a.log")
    assert (tmp_path / "a.log").read_text() == "mine"


def test_the_command_exports_the_study_and_leaves_no_other_file(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert study.plan.name == "exported"
    assert run(["studies", "export", "exported", "exported.log", "--format", "optuna"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exported.log", "studies"]
    assert run(["studies", "export", "exported", "exported.log", "--format", "optuna"]) == 2
    assert "the file exists" in capsys.readouterr().err
    assert run(["studies", "export", "exported", "none/exported.log", "--format", "optuna"]) == 2
    assert "no folder none" in capsys.readouterr().err


class Quiet(WSGIRequestHandler):
    def log_message(self, *_words: Any) -> None:
        pass


@pytest.fixture
def dashboard(study: Study, tmp_path: Path) -> Iterator[str]:
    """The address of an `optuna-dashboard` on the exported study."""
    from optuna_dashboard import wsgi

    export(study, tmp_path / "a.log")
    app = wsgi(JournalStorage(JournalFileBackend(str(tmp_path / "a.log"))))
    with socket.socket() as free_socket:
        free_socket.bind(("127.0.0.1", 0))
        port = free_socket.getsockname()[1]
    with make_server("127.0.0.1", port, app, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{port}"
        server.shutdown()
        thread.join()


@pytest.mark.filterwarnings("ignore")
def test_the_dashboard_shows_every_trial(study: Study, dashboard: str) -> None:
    def fetch(path: str) -> Any:
        with urllib.request.urlopen(f"{dashboard}{path}", timeout=30) as response:
            return json.loads(response.read())

    [listed] = fetch("/api/studies")["study_summaries"]
    assert listed["study_name"] == "exported"
    shown = fetch(f"/api/studies/{listed['study_id']}")
    trials = study.history.searched()
    assert [row["state"].upper()[:4] for row in shown["trials"]] == [
        {"COMPLETE": "COMP", "PRUNED": "PRUN", "FAIL": "FAIL", "RUNNING": "RUNN"}[
            OPTUNA_STATES[trial.status]
        ]
        for trial in trials
    ]
    for row, trial in zip(shown["trials"], trials, strict=True):
        assert [step["value"] for step in row["intermediate_values"]] == [
            report.objective for report in trial.reports
        ]
    assert {row["name"] for row in shown["union_search_space"]} == {
        "optimizer",
        "momentum",
        "learning_rate",
        "width",
    }
    assert fetch(f"/api/studies/{listed['study_id']}/param_importances")
