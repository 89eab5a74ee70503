"""Trials that adapt a pretrained transformer by LoRA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from raysearch.config.hyperparameter_spec import Value
from raysearch.models.transfer.network_layers import is_adapter
from raysearch.training.checkpoint import (
    pack_fold_checkpoint,
    unpack_checkpoint,
    unpack_fold_checkpoint,
)
from raysearch.training.fold_training import FoldTrainer
from raysearch.training.loop import FoldListener, FoldState, train_fold
from raysearch.training.precision_settings import PrecisionSettings
from raysearch.training.training_data import TrainingData
from support.lora_networks import NUM_BLOCKS, SNAPSHOTS, WIDTH, lora_config
from support.recorded_training import recorded_training, resumed_results

RANK = 4
NUM_ADAPTER_VALUES = NUM_BLOCKS * RANK * ((WIDTH + 3 * WIDTH) + (WIDTH + WIDTH))
NUM_HEAD_VALUES = 2 * WIDTH + 2
ALL_PARTS: dict[str, Value] = {
    "lora_rank": RANK,
    "lora_dropout": 0.2,
    "lora_targets": "all",
    "head_epochs": 1,
    "layer_decay": 0.7,
    "head_weight_decay": 0.1,
    "head_batch_norm": True,
    "ema_decay": 0.9,
    "warmup_fraction": 0.4,
    "gradient_clip_norm": 1.0,
}


@pytest.fixture(params=SNAPSHOTS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder of a small pretrained transformer."""
    path: Path = SNAPSHOTS[request.param](tmp_path / "vit")
    return path


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_only_the_adapters_and_the_head_have_gradients_and_optimizer_state(
    tmp_path: Path, data: TrainingData, optimizer: str
) -> None:
    config = lora_config(SNAPSHOTS["timm"](tmp_path / "vit"), lora_rank=RANK, optimizer=optimizer)
    trainer = FoldTrainer(config, data, 0)
    before = {name: each.clone() for name, each in trainer.model.state_dict().items()}
    trainer.train_epoch(0)
    num_gradient_values = sum(
        parameter.numel() for parameter in trainer.model.parameters() if parameter.grad is not None
    )
    assert num_gradient_values == NUM_ADAPTER_VALUES + NUM_HEAD_VALUES
    optimized = trainer.optimization.optimizer
    assert (
        sum(each.numel() for group in optimized.param_groups for each in group["params"])
        == sum(each.numel() for each in optimized.state)
        == NUM_ADAPTER_VALUES + NUM_HEAD_VALUES
    )
    changed = {
        name
        for name, each in trainer.model.state_dict().items()
        if not torch.equal(each, before[name])
    }
    assert changed == set(trainer.trained_tensors.names or ())
    assert all(is_adapter(name) or "head" in name for name in changed)


def test_the_head_alone_is_trained_in_its_epochs(folder: Path, data: TrainingData) -> None:
    config = lora_config(folder, head_epochs=1, head_learning_rate=0.02, learning_rate=1e-3)
    trainer = FoldTrainer(config, data, 0)
    optimized = trainer.optimization.optimizer
    assert [group["lr"] for group in optimized.param_groups] == [0.02]
    assert sum(each.numel() for each in optimized.param_groups[0]["params"]) == NUM_HEAD_VALUES
    before = {name: each.clone() for name, each in trainer.model.state_dict().items()}
    for epoch, is_changed in ((0, False), (1, True)):
        trainer.train_epoch(epoch)
        adapters = [name for name in before if is_adapter(name)]
        state = trainer.model.state_dict()
        assert [not torch.equal(state[name], before[name]) for name in adapters] == [
            is_changed
        ] * len(adapters)


def test_adapters_of_earlier_blocks_have_lower_learning_rates(
    tmp_path: Path, data: TrainingData
) -> None:
    config = lora_config(
        SNAPSHOTS["timm"](tmp_path / "vit"),
        lora_rank=RANK,
        layer_decay=0.5,
        learning_rate=0.01,
        schedule="constant",
        head_weight_decay=0.3,
    )
    groups = FoldTrainer(config, data, 0).optimization.optimizer.param_groups
    # Behind the blocks is the last normalization, which has no adapter.
    assert [group["lr"] for group in groups] == [0.01 * 0.5**3, 0.01 * 0.5**2, 0.01]
    assert [sum(each.numel() for each in group["params"]) for group in groups] == [
        NUM_ADAPTER_VALUES // 2,
        NUM_ADAPTER_VALUES // 2,
        NUM_HEAD_VALUES,
    ]
    assert groups[-1]["weight_decay"] == 0.3


@pytest.mark.parametrize("stop_after", [1, 2, 3])
@pytest.mark.parametrize("hparams", [{}, ALL_PARTS])
def test_a_resumed_trial_equals_an_uninterrupted_one(
    folder: Path, data: TrainingData, hparams: dict[str, Value], stop_after: int
) -> None:
    config = lora_config(folder, **hparams)
    results = recorded_training(config, data).results()
    assert resumed_results(config, data, stop_after) == results


def test_a_checkpoint_has_the_adapters_and_the_head_only(folder: Path, data: TrainingData) -> None:
    config = lora_config(folder, **ALL_PARTS)
    checkpoints = recorded_training(config, data).checkpoints
    trainer = FoldTrainer(config, data, 1)
    names = trainer.trained_tensors.names
    assert names
    state = unpack_checkpoint(checkpoints[-1]).trainer
    assert state.model.keys() == names
    assert state.average is not None
    assert state.average.keys() == {"n_averaged", *(f"module.{name}" for name in names)}
    assert sum(each.numel() for each in state.model.values()) < sum(
        each.numel() for each in trainer.model.parameters()
    )
    del state.model[min(filter(is_adapter, names))]
    with pytest.raises(RuntimeError, match="Missing key"):
        trainer.load_state(state)


def test_the_average_shares_all_that_is_not_trained(folder: Path, data: TrainingData) -> None:
    trainer = FoldTrainer(lora_config(folder, ema_decay=0.5), data, 0)
    before = {name: each.clone() for name, each in trainer.model.state_dict().items()}
    trainer.train_epoch(0)
    average, model = trainer.trained_model.state_dict(), trainer.model.state_dict()
    names = trainer.trained_tensors.names
    assert names
    for name in model:
        is_shared = average[name].data_ptr() == model[name].data_ptr()
        assert is_shared == (name not in names), name
        assert torch.equal(average[name], before[name]) == is_shared, name


class CheckpointListener(FoldListener):
    """Keeps the checkpoint after the first epoch."""

    checkpoint = b""

    def on_epoch(self, epochs: int, state: Callable[[], FoldState]) -> None:
        """Keep the checkpoint after the first epoch."""
        if epochs == 1:
            self.checkpoint = pack_fold_checkpoint(state(), "fold 0")


@pytest.mark.parametrize("hparams", [{}, ALL_PARTS])
def test_a_trained_fold_has_merged_weights_also_if_it_was_interrupted(
    folder: Path, data: TrainingData, hparams: dict[str, Value]
) -> None:
    config = lora_config(folder, learning_rate=0.02, **hparams)
    listener = CheckpointListener()
    trained = train_fold(config, data, 0, listener)
    assert not [name for name in trained.net.state_dict() if "lora" in name or "base" in name]
    trainer = FoldTrainer(config, data, 0)
    rows = torch.from_numpy(trainer.val_indices)
    with torch.inference_mode():
        logits = trained.net.eval()(trainer.load_batch(rows)).numpy()
    assert np.allclose(logits, trained.val_scores.logits, atol=1e-5)
    state = unpack_fold_checkpoint(listener.checkpoint, "fold 0")
    resumed = train_fold(config, data, 0, None, state)
    for name, tensor in trained.net.state_dict().items():
        assert torch.equal(tensor, resumed.net.state_dict()[name]), name


def test_lora_trains_in_bfloat16_and_channels_last(folder: Path, data: TrainingData) -> None:
    config = lora_config(folder, **ALL_PARTS)
    settings = PrecisionSettings("bfloat16", "channels_last")
    trained = train_fold(replace(config, precision_settings=settings), data, 0)
    assert np.isfinite(trained.val_scores.logits).all()
    assert all(each.dtype == torch.float32 for each in trained.net.parameters())
