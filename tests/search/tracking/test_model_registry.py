"""A model of the registry: MLflow's export and raysearch's artifact predict as the training did."""

from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch

from raysearch.champion.model_artifact import pack_model_artifact
from raysearch.champion.stored_champion import load_champion
from raysearch.data.shards.patches import load_patches
from raysearch.inference.model_loading import load_model, predict_proba
from raysearch.models.preprocessing import PREPROCESSINGS
from raysearch.search.engine.worker_messages import trial_task
from raysearch.search.engine.worker_tasks import refit_trial
from raysearch.search.study.trial_data import WorkerCache, train_config
from raysearch.search.tracking.model_registry import register_champion
from raysearch.search.tracking.tracker import Tracker
from raysearch.training.fold_training import FoldTrainer
from raysearch.training.loop import probabilities
from support.champion_studies import REFIT_DECISION
from support.recorded_training import HPARAMS
from support.result_studies import new_study


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
    refit_trial(trial_task(study, trial))
    study.record_champion(trial, REFIT_DECISION)
    artifact, classifier = load_champion(study.folder, study.plan, study.history)

    patches = np.array(load_patches(str(shards)).pixels).reshape(-1, *study.plan.shape)
    store = f"sqlite:///{tmp_path}/mlflow.db"
    tracker = Tracker(study.plan, store)
    tags = {"trial": trial.id, "kind": "refit"}
    content = pack_model_artifact(artifact, classifier)
    version = register_champion(tracker, "x", classifier, patches[:2], tags, content)
    tracker.close("FINISHED", 60.0)
    mlflow.set_tracking_uri(store)
    exported = mlflow.pyfunc.load_model(f"models:/x/{version}").predict(patches)

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
