"""Paired comparison of a hyperparameter's values, with trials that are equal in all others."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from raysearch.cli import run
from raysearch.config.space_file import parse_space
from raysearch.errors import StudyError
from raysearch.metrics.bootstrap import patient_weights
from raysearch.metrics.classification import classification_metrics
from raysearch.search.engine.reporter import fold_report as report_of
from raysearch.search.journal.history import Trial
from raysearch.search.study.fold_scores import encode_fold_epoch_scores, out_of_fold
from raysearch.search.study.study import Study
from raysearch.search.study.trial_data import WORKER_CACHE, train_config
from raysearch.selection import comparison
from raysearch.selection.comparison import compare_values, trial_pairs
from raysearch.training.fold_training import ValidationScores
from raysearch.training.loop import FoldEpoch, train
from raysearch.training.training_data import TrainingData
from support.result_studies import fold_report, new_study, next_searched
from support.scored_trials import record_scores

TREE: dict[str, Any] = {
    "epochs": 1,
    "trials": 9,
    "seed": 1,
    "sampler": "grid",
    "stopping": {"rule": "none"},
    "space": {
        "folds": 2,
        "convolutions": 1,
        "width": 4,
        "learning_rate": {"choice": [0.001, 0.01]},
        "preprocess": {"choice": ["none", "sharpen"]},
    },
}
NAMES = ("negative", "positive")


def train_trial(study: Study, trial: Trial, data: TrainingData) -> None:
    """Train `trial` as its worker would, without Ray."""

    def report(fold_epoch: FoldEpoch, val_scores: ValidationScores, _state: object) -> None:
        content = encode_fold_epoch_scores(fold_epoch, val_scores, data)
        scores = study.folder.write_scores(trial.id, fold_epoch.epoch, content)
        study.report(dataclasses.replace(report_of(trial.id, fold_epoch, None), scores=scores))

    train(train_config(study.plan, trial.hparams, trial.seed, torch.device("cpu")), data, report)


@pytest.fixture(scope="module")
def grid_study(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A grid of four trained trials."""
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("compared") / "studies" / "seen"
    study = new_study(shards, place, TREE)
    data = WORKER_CACHE.training_data(study.folder.address, str(shards), "cpu", 2, 1.0)
    for _ in range(4):
        train_trial(study, next_searched(study), data)
    return study


def test_a_grid_has_a_pair_for_each_value_of_the_other_hyperparameter(grid_study: Study) -> None:
    trials = grid_study.history.done()
    pairs = trial_pairs(grid_study.plan.space, trials, "preprocess")
    assert list(pairs) == [("none", "sharpen")]
    for first, second in pairs["none", "sharpen"]:
        assert first.hparams["learning_rate"] == second.hparams["learning_rate"]
    assert len(pairs["none", "sharpen"]) == 2
    assert list(trial_pairs(grid_study.plan.space, trials, "learning_rate")) == [(0.001, 0.01)]


def test_the_difference_is_of_pooled_scores_and_its_interval_resamples_patients(
    grid_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "NUM_REPLICATES", 60)
    folder, plan, history = grid_study.folder, grid_study.plan, grid_study.history
    (result,) = compare_values(folder, plan, history, "preprocess")
    pairs = trial_pairs(plan.space, history.done(), "preprocess")["none", "sharpen"]

    def auroc(trial: Trial, weights: NDArray[np.float64]) -> float:
        scores = out_of_fold(folder, plan, trial)
        patient_index = np.unique(scores.patients, return_inverse=True)[1]
        rows = np.repeat(np.arange(len(patient_index)), weights[patient_index].astype(int))
        metrics = classification_metrics(scores.labels[rows], scores.probabilities[rows], NAMES)
        value = metrics["auroc"]
        return np.nan if value is None else value

    def differences(weights: NDArray[np.float64]) -> list[float]:
        return [auroc(second, weights) - auroc(first, weights) for first, second in pairs]

    original = differences(np.ones(12))
    assert result.difference.value == pytest.approx(np.mean(original), abs=1e-12)
    assert (result.min_difference, result.max_difference) == pytest.approx(
        (min(original), max(original)), abs=1e-12
    )
    replicates = [float(np.mean(differences(weights))) for weights in patient_weights(12, 60, 1)]
    bounds = np.nanquantile(replicates, (0.025, 0.975))
    assert (result.difference.low, result.difference.high) == pytest.approx(bounds, abs=1e-12)
    assert (result.num_pairs, result.num_trials, result.num_patients) == (2, 4, 12)
    means = np.mean([[auroc(trial, np.ones(12)) for trial in pair] for pair in pairs], axis=0)
    assert result.objectives == pytest.approx(tuple(means), abs=1e-12)


def scored_study(
    shards: Path,
    place: Path,
    misclassified: Mapping[str, tuple[int, ...]],
    metric: str = "accuracy",
    num_patients: int = 4,
) -> Study:
    """Create a study of two trials; all patches of the `misclassified` patients are wrong."""
    space = {**TREE["space"], "learning_rate": 0.001}
    study = new_study(shards, place, {**TREE, "space": space, "objective": {"metric": metric}})
    data = WORKER_CACHE.training_data(study.folder.address, str(shards), "cpu", 2, 1.0)
    rows = np.arange(2 * num_patients, dtype=np.int64)
    labels = torch.from_numpy(rows % 2)
    names = np.array([f"p{row // 2}" for row in rows])
    data = dataclasses.replace(data, labels=labels, patients=names)
    for _ in range(2):
        trial = next_searched(study)
        is_wrong = np.isin(rows // 2, misclassified[str(trial.hparams["preprocess"])])
        logits = np.where(is_wrong, -6.0, 6.0) * (2.0 * (rows % 2) - 1)
        for epoch, half in ((1, rows[:num_patients]), (2, rows[num_patients:])):
            report = fold_report(trial.id, epoch, 0.5, fold=epoch - 1, metrics={metric: 0.5})
            record_scores(study, data, report, half, logits[half])
    return study


@pytest.mark.parametrize(
    ("none", "sharpen", "metric", "objectives", "interval", "better"),
    [
        ((0, 1, 2, 3), (), "accuracy", (0.0, 1.0), (1.0, 1.0, 1.0), "sharpen"),
        ((), (0, 1, 2, 3), "accuracy", (1.0, 0.0), (-1.0, -1.0, -1.0), "none"),
        ((0,), (0,), "accuracy", (0.75, 0.75), (0.0, 0.0, 0.0), None),
        # Of four patients, one is in no replicate of (3/4)^4 = 32 %, and three times in 5 %.
        ((0,), (), "accuracy", (0.75, 1.0), (0.0, 0.25, 0.75), None),
        # Minimized: log(1 + exp(-6)) = 0.0025 for correct logits, and 6 more for wrong ones.
        ((0, 1, 2, 3), (), "log_loss", (6.0025, 0.0025), (-6.0, -6.0, -6.0), "sharpen"),
    ],
)
def test_cases_computed_by_hand(
    shards: Path,
    tmp_path: Path,
    none: tuple[int, ...],
    sharpen: tuple[int, ...],
    metric: str,
    objectives: tuple[float, float],
    interval: tuple[float, float, float],
    better: str | None,
) -> None:
    study = scored_study(shards, tmp_path / "x", {"none": none, "sharpen": sharpen}, metric)
    (result,) = compare_values(study.folder, study.plan, study.history, "preprocess")
    difference = result.difference
    assert (difference.low, difference.value, difference.high) == pytest.approx(interval, abs=1e-6)
    assert result.objectives == pytest.approx(objectives, abs=1e-4)
    assert result.better == better


def test_one_patient_has_no_interval(shards: Path, tmp_path: Path) -> None:
    study = scored_study(shards, tmp_path / "x", {"none": (0,), "sharpen": ()}, num_patients=1)
    (result,) = compare_values(study.folder, study.plan, study.history, "preprocess")
    assert (result.difference.low, result.difference.value, result.better) == (None, 1.0, None)


def trial_with(number: int, **hparams: Any) -> Trial:
    """Return a trial with hyperparameters."""
    return Trial(f"t{number:04d}", "trial", hparams, number, 2)


def test_dependent_hyperparameters_are_part_of_the_compared_value() -> None:
    tree = {
        "space": {
            "optimizer": {"choice": ["adamw", "sgd", "rmsprop"]},
            "momentum": {"uniform": [0.0, 0.9], "when": {"optimizer": ["sgd", "rmsprop"]}},
            "width": {"choice": [4, 8]},
        }
    }
    trials = [
        trial_with(0, optimizer="adamw", width=4),
        trial_with(1, optimizer="sgd", width=4, momentum=0.5),
        trial_with(2, optimizer="rmsprop", width=4, momentum=0.5),
        trial_with(3, optimizer="rmsprop", width=4, momentum=0.6),
        trial_with(4, optimizer="adamw", width=8),
    ]
    space = parse_space(tree, "x")
    names = {
        values: [(first.id, second.id) for first, second in pairs]
        for values, pairs in trial_pairs(space, trials, "optimizer").items()
    }
    assert names == {
        ("adamw", "sgd"): [("t0000", "t0001")],
        ("adamw", "rmsprop"): [("t0000", "t0002"), ("t0000", "t0003")],
        ("sgd", "rmsprop"): [("t0001", "t0002")],
    }
    assert list(trial_pairs(space, trials, "width")) == [(4, 8)]
    assert list(trial_pairs(space, trials, "momentum")) == [(0.5, 0.6)]


def test_a_comparison_without_data_is_rejected_in_one_line(shards: Path, tmp_path: Path) -> None:
    study = scored_study(shards, tmp_path / "x", {"none": (0,), "sharpen": ()})

    def rejection(hyperparameter: str, study: Study = study) -> str:
        with pytest.raises(StudyError) as rejected:
            compare_values(study.folder, study.plan, study.history, hyperparameter)
        assert "\n" not in str(rejected.value)
        return str(rejected.value)

    assert "'x' does not search it; it searches preprocess" in rejection("width")
    assert "does not search it" in rejection("bogus")
    message = rejection("preprocess", new_study(shards, tmp_path / "y", TREE))
    assert "no two of the 0 finished trials of 'y' differ in it alone" in message
    assert "`sampler: grid`" in message
    name = study.folder.scores("t0001", 2, study.history.trials["t0001"].score_hashes[2])
    study.folder.write(name, study.folder.read(name)[:-9])
    assert f"{name}: damaged (its SHA-256 is not" in rejection("preprocess")
    study.folder.remove(name)
    assert f"{name}: missing; restore it" in rejection("preprocess")


def test_the_command_prints_a_table_or_json(
    grid_study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(Path(grid_study.folder.address).parents[1])
    assert run(["compare", "seen", "--hyperparameter", "preprocess"]) == 0
    output = capsys.readouterr().out
    for text in ("auroc by preprocess in seen", "none -> sharpen", "seed of their training"):
        assert text in " ".join(output.split())
    assert run(["compare", "--hyperparameter", "learning_rate", "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert (record["first"], record["second"], record["num_pairs"]) == (0.001, 0.01, 2)
    assert record["difference"]["low"] <= record["difference"]["value"]
    assert run(["compare", "seen", "--hyperparameter", "width"]) == 2
    assert "it searches learning_rate, preprocess" in capsys.readouterr().err
    assert run(["compare", "seen"]) == 2
    assert "--hyperparameter" in capsys.readouterr().err
