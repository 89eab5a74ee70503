"""A study by LoRA, from its launch to predictions by a network without adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from conftest import Commands
from raysearch.champion.stored_champion import load_champion_network
from raysearch.models.transfer.network_layers import is_adapter
from raysearch.search.study.stored_study import load_study
from raysearch.training.checkpoint import unpack_checkpoint
from support.empty_tracking_store import add_tracking_store
from support.launched_studies import study
from support.lora_networks import transformers_snapshot

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
HEAD = ("head.weight", "head.bias")
SPACE = """
epochs: 1
trials: 3
seed: 4
repeats: 1
stopping: {rule: none}
space:
  folds: 2
  architecture: FOLDER
  adaptation: lora
  lora_rank: {logint: [1, 8]}
  lora_targets: {choice: [attention, mlp, all]}
  ema_decay: 0.5
  learning_rate: {loguniform: [1.0e-3, 1.0e-2]}
"""


def test_a_study_by_lora_registers_a_network_that_predicts_without_adapters(
    run_on_cluster: Commands, shards: Path, tmp_path: Path
) -> None:
    run, folder = run_on_cluster, transformers_snapshot(tmp_path / "vit")
    add_tracking_store(run.folder)
    (run.folder / "lora.yaml").write_text(SPACE.replace("FOLDER", str(folder)))
    run("launch", "lora.yaml", "--data", str(shards), "--name", "lora")
    study_folder = study(run, "lora")
    stored = load_study(study_folder)
    finished = [trial for trial in stored.history.searched() if trial.status == "finished"]
    assert len(finished) == 3
    checkpoints = study_folder.names("checkpoints")
    assert checkpoints
    for name in checkpoints:
        content = study_folder.read(f"checkpoints/{name}")
        names = unpack_checkpoint(content).trainer.model
        assert all(is_adapter(tensor) or tensor.endswith(HEAD) for tensor in names)
    (folder / "model.safetensors").unlink()  # the registered model has all weights
    run.here("predict", "lora", str(shards), "out")
    assert len((run.folder / "out" / "scores.csv").read_text().splitlines()) == 240 + 1
    _trial, network = load_champion_network(study_folder, stored.plan, stored.history)
    assert not [name for name in network.state_dict() if "lora" in name]
    with torch.inference_mode():
        assert network.eval()(torch.zeros(1, 3, 28, 28)).shape == (1, 2)
