"""A model of the registry: MLflow's export and raysearch's artifact predict as the training did."""

import signal
import socket
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient

from conftest import await_answer
from raysearch.champion.model_artifact import pack_model_artifact
from raysearch.champion.register import example_batch
from raysearch.champion.stored_champion import load_champion
from raysearch.data.shards.patches import load_patches
from raysearch.errors import DataError
from raysearch.inference.model_loading import load_model, predict_proba
from raysearch.models.preprocessing import PREPROCESSINGS
from raysearch.search.engine.champion_tasks import refit_trial
from raysearch.search.engine.worker_messages import trial_task
from raysearch.search.study.study import Study
from raysearch.search.study.trial_data import WorkerCache, train_config
from raysearch.search.tracking import model_registry
from raysearch.search.tracking.model_registry import load_registered_model, register_champion
from raysearch.search.tracking.served_model import ServedRule
from raysearch.search.tracking.tracker import Tracker
from raysearch.search.tracking.tracking_store import global_store
from raysearch.training.fold_training import FoldTrainer
from raysearch.training.loop import probabilities
from support.champion_studies import REFIT_DECISION
from support.recorded_training import HPARAMS
from support.result_studies import new_study
from support.tracking_server import Server


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", [name for name in PREPROCESSINGS if name != "none"])
def test_a_registered_model_predicts_with_the_preprocessing_of_its_training(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    hparams = {**HPARAMS, "preprocess": method}
    tree = {"epochs": 2, "trials": 1, "space": {"folds": 2, **hparams}}
    study = new_study(shards, tmp_path / "x", tree)
    trial = study.start("t0000", "trial", hparams)
    study.record_refit(trial, refit_trial(trial_task(study, trial)).network)
    study.record_champion(trial, REFIT_DECISION)
    artifact, classifier = load_champion(study.folder, study.plan, study.history)

    patches = np.array(load_patches(str(shards)).pixels).reshape(-1, *study.plan.shape)
    store = f"sqlite:///{tmp_path}/mlflow.db"
    tracker = Tracker(study.plan, store)
    tags = {"trial": trial.id, "kind": "refit"}
    content = pack_model_artifact(artifact, classifier)
    version = register_champion(
        tracker, "x", classifier, patches[:2], tags, content, artifact.served_rule
    )
    tracker.close("FINISHED", 60.0)
    with global_store(store):
        answer = mlflow.pyfunc.load_model(f"models:/x/{version}").predict(patches)
    exported = answer[[f"score_{name}" for name in artifact.class_names]].to_numpy()

    data = WorkerCache().training_data(study.folder.address, str(shards), "cpu", 2, 1.0)
    all_rows = np.arange(len(data.labels), dtype=np.int64)
    config = train_config(study.plan, hparams, trial.seed, torch.device("cpu"))
    trainer = FoldTrainer(config, replace(data, folds=((all_rows, all_rows),)), 0)
    for epoch in range(2):
        trainer.train_epoch(epoch)
    expected = probabilities(trainer.validate(use_tta=True).logits)
    assert np.abs(exported - expected).max() < 1e-5
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    model = load_model(f"models:/x/{version}", "")
    loaded = predict_proba(model, patches.reshape(len(patches), -1))
    assert np.abs(exported - loaded).max() < 1e-5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_tracking_server_gets_the_model_without_a_user_and_a_path(
    small_champion_study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small_champion_study
    artifact, classifier = load_champion(study.folder, study.plan, study.history)
    server = Server(tmp_path)
    try:
        await_answer(f"{server.address}/health")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        tracker = Tracker(study.plan, server.address)
        tags = {"trial": artifact.trial, "kind": "refit"}
        content = pack_model_artifact(artifact, classifier)
        example = example_batch(artifact.shape)
        versions = [
            register_champion(
                tracker, "first", classifier, example, tags, content, artifact.served_rule
            )
            for _ in range(2)
        ]
        assert tracker.close("FINISHED", 60.0) is None
        assert versions == ["1", "1"]
        assert load_model("models:/first@champion", "").artifact == artifact
        model_id = tracker.client.get_model_version("first", "1").source.removeprefix("models:/")
        logged_model = tracker.client.get_logged_model(model_id)
        assert logged_model.tags.keys() == {*tags, "answer", "mlflow.modelVersions"}
        assert logged_model.status == "READY"
        run = tracker.client.get_run(tracker.parent_run_id)
        assert [output.model_id for output in run.outputs.model_outputs] == [model_id]
    finally:
        server.signal(signal.SIGKILL)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("deleted", ["the run", "the experiment"])
def test_what_the_registration_needs_is_restored_after_somebody_deleted_it(
    shards: Path, tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch, deleted: str
) -> None:
    def save(folder: Path, *_arguments: object) -> None:
        folder.mkdir()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_registry, "save_exported_model", save)  # it takes seconds
    tracker = Tracker(new_study(shards, tmp_path / "studies" / "x").plan, store)
    run = tracker.client.get_run(tracker.parent_run_id)
    if deleted == "the run":
        tracker.client.delete_run(run.info.run_id)
    else:
        tracker.client.delete_experiment(run.info.experiment_id)
    rule = ServedRule(("a", "b"), 0.5)
    patches = np.zeros((2, 8, 8, 3), np.uint8)
    tags = {"trial": "t0000", "kind": "refit"}
    version = register_champion(tracker, "x", torch.nn.Identity(), patches, tags, b"", rule)
    assert tracker.close("FINISHED", 60.0) is None
    assert tracker.client.get_model_version("x", version).run_id == run.info.run_id
    assert tracker.client.get_run(run.info.run_id).info.status == "FINISHED"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_version_at_an_address_that_is_not_allowed_is_rejected_before_it_is_read(
    tmp_path: Path,
) -> None:
    """Whether the version names the address itself, or its logged model or run does."""
    store = f"sqlite:///{tmp_path}/mlflow.db"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        host = f"127.0.0.1:{server.getsockname()[1]}"
        client = MlflowClient(store, store)
        client.create_registered_model("x")
        http = client.create_experiment("http", f"http://{host}/a")
        run_id = client.create_run(http).info.run_id
        model_id = client.create_logged_model(http).model_id
        sources = (f"http://{host}/a", f"runs:/{run_id}/m", f"models:/{model_id}", "dbfs:/x")
        with global_store(store):
            versions = [client.create_model_version("x", source).version for source in sources]
        for version in versions:
            with pytest.raises(DataError, match=r"file system (http|dbfs) is not allowed"):
                load_registered_model(f"models:/x/{version}", store)
        with pytest.raises(TimeoutError):  # nobody connects
            server.accept()
