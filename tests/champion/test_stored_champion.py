"""Loading a champion from its study: the refit, the ensemble, and what is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from raysearch.champion.model_artifact import model_artifact_of
from raysearch.champion.stored_champion import (
    calibrated_scores,
    champion_of,
    champion_scores,
    load_champion,
    load_champion_network,
    load_refit_weights,
)
from raysearch.data.shards.patches import load_patches
from raysearch.errors import StudyError
from raysearch.metrics.calibration import apply_temperature
from raysearch.models.classifier import Ensemble, PatchClassifier
from raysearch.models.preprocessing import PREPROCESSINGS
from raysearch.search.engine.champion_tasks import refit_trial
from raysearch.search.engine.worker_messages import trial_task
from raysearch.search.study.fold_scores import repeat_out_of_fold
from raysearch.search.study.study import Study
from raysearch.search.study.trial_data import WorkerCache, train_config
from raysearch.training.fold_training import FoldTrainer
from raysearch.training.loop import probabilities
from raysearch.training.network_weights import (
    NetworkWeights,
    pack_network_weights,
    unpack_network_weights,
)
from raysearch.training.preprocessed_pixels import build_preprocessing
from support.champion_studies import (
    ENSEMBLE_DECISION,
    REFIT_DECISION,
    REPEAT_SEED,
    study_with_champion,
    study_with_started_trial,
    train_repeat,
)
from support.recorded_training import HPARAMS
from support.result_studies import new_study


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    """A study with one trial, whose repeat is trained."""
    study = study_with_started_trial(shards, tmp_path / "studies" / "repeated")
    train_repeat(study, study.history.trials["t0000"])
    return study


def member_weights(study: Study) -> list[NetworkWeights]:
    files = [study.folder.repeat_network("t0000", REPEAT_SEED, fold) for fold in (0, 1)]
    return [unpack_network_weights(study.folder.read(file)) for file in files]


def test_the_ensemble_is_the_mean_of_its_members_each_with_its_own_preprocessing(
    study: Study,
) -> None:
    trial, plan = study.history.trials["t0000"], study.plan
    study.record_champion(trial, replace(ENSEMBLE_DECISION, temperature=2.0))
    artifact, classifier = load_champion(study.folder, plan, study.history)
    assert isinstance(classifier, Ensemble)
    assert artifact.num_members == 2
    weights = member_weights(study)
    first, second = (member.preprocessing for member in weights)
    assert any(not torch.equal(first[name], second[name]) for name in first)
    members = [artifact.build_trained([member]) for member in weights]
    patches = torch.from_numpy(np.array(load_patches(plan.data).pixels[:5])).view(5, *plan.shape)
    with torch.inference_mode():
        outputs = [member(patches) for member in members]
        output = classifier(patches)
    assert not torch.allclose(outputs[0], outputs[1], atol=1e-3)
    assert torch.allclose(output, (outputs[0] + outputs[1]) / 2, atol=1e-7)


def test_a_member_predicts_its_validation_rows_as_they_were_stored(study: Study) -> None:
    trial, plan = study.history.trials["t0000"], study.plan
    scores = repeat_out_of_fold(study.folder, plan, trial, REPEAT_SEED, [0])
    assert scores is not None
    pixels = np.array(load_patches(plan.data).pixels[scores.rows])
    artifact = model_artifact_of(plan, trial, REFIT_DECISION)
    with torch.inference_mode():
        member = artifact.build_trained(member_weights(study)[:1])
        predicted = member(torch.from_numpy(pixels).view(-1, *plan.shape)).numpy()
    assert np.abs(predicted - scores.probabilities).max() < 1e-5


def test_an_exported_ensemble_takes_any_batch_size(study: Study) -> None:
    study.record_champion(study.history.trials["t0000"], ENSEMBLE_DECISION)
    _artifact, classifier = load_champion(study.folder, study.plan, study.history)
    patches = torch.randint(0, 256, (5, *study.plan.shape), dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.export.export(classifier, (patches[:2],), dynamic_shapes=({0: batch},))
    with torch.inference_mode():
        assert torch.allclose(program.module()(patches), classifier(patches), atol=1e-6)


def test_an_ensemble_has_no_single_network(study: Study) -> None:
    study.record_champion(study.history.trials["t0000"], ENSEMBLE_DECISION)
    with pytest.raises(StudyError, match="is an ensemble of several networks; run `raysearch sel"):
        load_champion_network(study.folder, study.plan, study.history)


def test_a_study_without_a_champion_is_rejected(study: Study) -> None:
    for load in (load_champion, load_champion_network):
        with pytest.raises(StudyError, match="study 'repeated' has no champion yet"):
            load(study.folder, study.plan, study.history)


def test_missing_weights_of_an_ensemble_are_rejected(study: Study) -> None:
    study.record_champion(study.history.trials["t0000"], ENSEMBLE_DECISION)
    study.folder.remove(study.folder.repeat_network("t0000", REPEAT_SEED, 1))
    with pytest.raises(StudyError, match="missing or damaged; restore it, or run `raysearch laun"):
        load_champion(study.folder, study.plan, study.history)


def test_missing_scores_of_a_repeat_are_rejected(study: Study) -> None:
    trial = study.history.trials["t0000"]
    study.folder.remove(study.folder.repeat_scores("t0000", REPEAT_SEED, 0))
    with pytest.raises(StudyError, match="missing or damaged; run `raysearch select`"):
        champion_scores(study.folder, study.plan, trial, REPEAT_SEED)


def test_a_refit_has_the_out_of_fold_scores_of_the_search(shards: Path, tmp_path: Path) -> None:
    study = study_with_champion(shards, tmp_path / "studies" / "first")
    trial, decision = champion_of(study.plan, study.history)
    assert load_refit_weights(study.folder, trial).trial == trial.id
    raw = champion_scores(study.folder, study.plan, trial, None)
    calibrated = calibrated_scores(study.folder, study.plan, trial, decision)
    expected = apply_temperature(raw.probabilities, decision.temperature)
    assert np.array_equal(calibrated.probabilities, expected)
    with pytest.raises(ValueError, match="the weights are those of t0000"):
        load_refit_weights(study.folder, replace(trial, id="t0009"))


@pytest.mark.parametrize("method", PREPROCESSINGS)
def test_the_champion_predicts_with_the_preprocessing_of_its_training(
    shards: Path, tmp_path: Path, method: str
) -> None:
    hparams = {**HPARAMS, "preprocess": method}
    tree = {"epochs": 2, "trials": 1, "space": {"folds": 2, **hparams}}
    study = new_study(shards, tmp_path / "x", tree)
    trial = study.start("t0000", "trial", hparams)
    task = trial_task(study, trial)
    study.record_refit(trial, refit_trial(task).network)
    study.record_champion(trial, REFIT_DECISION)
    _artifact, classifier = load_champion(study.folder, study.plan, study.history)
    assert isinstance(classifier, PatchClassifier)
    data = WorkerCache().training_data(study.folder.address, str(shards), "cpu", 2, 1.0)
    all_rows = np.arange(len(data.labels), dtype=np.int64)
    data = replace(data, folds=((all_rows, all_rows),))
    config = train_config(study.plan, hparams, task.seed, torch.device("cpu"))
    trainer = FoldTrainer(config, data, 0)
    for epoch in range(2):
        trainer.train_epoch(epoch)
    expected = probabilities(trainer.validate(use_tta=True).logits)
    patches = torch.from_numpy(np.array(load_patches(str(shards)).pixels))
    patches = patches.view(-1, *study.plan.shape)
    with torch.inference_mode():
        output = classifier(patches).numpy()
    assert np.abs(output - expected).max() < 1e-5
    if method != "none":
        classifier.preprocessing = build_preprocessing({})
        with torch.inference_mode():
            without_preprocessing = classifier(patches).numpy()
        assert np.abs(without_preprocessing - output).max() > 1e-3


def test_the_refit_of_another_trial_is_not_the_champions(shards: Path, tmp_path: Path) -> None:
    """A launch that is killed between a refit and its journal entry leaves such weights."""
    study = study_with_started_trial(shards, tmp_path / "studies" / "repeated")
    study.record_champion(study.history.trials["t0000"], REFIT_DECISION)
    weights = pack_network_weights("t0003", nn.Identity(), nn.Identity())
    study.folder.write(study.folder.CHAMPION, weights)
    for load in (load_champion, load_champion_network):
        with pytest.raises(StudyError, match=r"champion\.pt: missing or damaged"):
            load(study.folder, study.plan, study.history)
