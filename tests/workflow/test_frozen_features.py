"""A study of classifiers over frozen features, from its launch to predictions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import Commands
from raysearch.search.study.stored_study import load_study
from raysearch.training.training_data import TrainingData
from support.empty_tracking_store import add_tracking_store
from support.frozen_networks import pretrained_file
from support.launched_studies import study

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SPACE = """
epochs: 1
trials: 5
seed: 4
repeats: 1
space:
  folds: 2
  architecture: cnn
  width: 4
  convolutions: 1
  weights: WEIGHTS
  augment: none
  adaptation: frozen
  classifier:
    choice:
      logistic_regression: {l2_penalty: {loguniform: [1.0e-3, 1]}}
      nearest_neighbors: {num_neighbors: {int: [3, 9]}}
      mlp: {learning_rate: {loguniform: [1.0e-4, 1.0e-2]}}
"""


def test_a_study_of_classifiers_registers_a_network_that_predicts(
    run_on_cluster: Commands, shards: Path, tmp_path: Path, data: TrainingData
) -> None:
    run = run_on_cluster
    weights = pretrained_file(tmp_path, data)
    add_tracking_store(run.folder)
    (run.folder / "heads.yaml").write_text(SPACE.replace("WEIGHTS", str(weights)))
    words = ("launch", "heads.yaml", "--data", str(shards), "--name", "heads", "--json")
    outcome = json.loads(run(*words).stdout)
    history = load_study(study(run, "heads")).history
    searched = history.searched()
    assert len(searched) == 5
    assert "failed" not in {trial.status for trial in searched}
    finished = [trial for trial in searched if trial.status == "finished"]
    assert finished
    assert all(trial.costs.inference_ms for trial in finished)
    assert outcome["pooled_auroc"]["value"] > 0.6
    run.here("predict", "heads", str(shards), "out")
    assert len((run.folder / "out" / "scores.csv").read_text().splitlines()) == 240 + 1
    # The license of the file is unknown, so that the model has no copy of it.
    weights = weights.rename(tmp_path / "hidden")
    error = run.here("predict", "models:/heads@champion", str(shards), "again", code=2).stderr
    assert error.endswith("put net.safetensors in a folder of RAYSEARCH_WEIGHTS\n")
    (run.folder / "weights").mkdir()
    weights.rename(run.folder / "weights" / "net.safetensors")
    run.environment["RAYSEARCH_WEIGHTS"] = str(run.folder / "weights")
    run.here("predict", "models:/heads@champion", str(shards), "again")
    assert (run.folder / "again/scores.csv").read_text() == (
        run.folder / "out/scores.csv"
    ).read_text()
    run("select", "heads", "--with-encoder", "--repeats", "0")
    (run.folder / "weights" / "net.safetensors").unlink()
    run.here("predict", "models:/heads@champion", str(shards), "copied")
    run.here("predict", "models:/heads/1", str(shards), "other", code=2)
