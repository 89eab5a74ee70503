import math

import pytest
import torch

from raysearch.config.hyperparameter_spec import Value
from raysearch.models.transfer.input_normalization import unwrap
from raysearch.models.transfer.network_layers import blocks, head_name
from raysearch.training.fold_training import FoldTrainer
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData
from support.recorded_training import recorded_training, resumed_results, small_config


def test_a_step_is_not_along_a_gradient_above_the_clip_norm(data: TrainingData) -> None:
    hparams: dict[str, Value] = {
        "optimizer": "sgd",
        "learning_rate": 1.0,
        "momentum": 0.0,
        "schedule": "constant",
    }
    for clip_norm, max_norm in ((0.01, 0.01), (0.0, math.inf)):
        trainer = FoldTrainer(small_config(gradient_clip_norm=clip_norm, **hparams), data, 0)
        rows = torch.from_numpy(trainer.train_indices[:32])
        before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
        trainer.backward(trainer.load_batch(rows), [(rows, 1.0)])
        trainer.optimization.step()
        step = torch.cat(
            [
                (parameter - old).detach().flatten()
                for parameter, old in zip(trainer.model.parameters(), before, strict=True)
            ]
        )
        assert float(step.norm()) <= max_norm * 1.001
        assert float(step.norm()) > 0.009


def transfer_config(epochs: int = 3, **hparams: Value) -> TrainConfig:
    """Return the configuration of a network with six blocks and a head."""
    network: dict[str, Value] = {"width": 4, "convolutions": 1, "batch_size": 16}
    return TrainConfig({**network, **hparams}, epochs, "auroc", seed=0)


def changed_layers(trainer: FoldTrainer, epoch: int) -> list[bool]:
    """Train an epoch, and return whether each block, and then the head, has changed."""
    net = unwrap(trainer.model)
    head = head_name(net, 2)
    layers = [layer for _name, layer in blocks(net, head)] + [net.get_submodule(head)]
    before = [[value.clone() for value in layer.state_dict().values()] for layer in layers]
    trainer.train_epoch(epoch)
    return [
        any(
            not torch.equal(old, new)
            for old, new in zip(values, layer.state_dict().values(), strict=True)
        )
        for values, layer in zip(before, layers, strict=True)
    ]


def test_frozen_blocks_keep_their_weights_and_their_batch_statistics(data: TrainingData) -> None:
    two_frozen = FoldTrainer(transfer_config(frozen_blocks=2), data, 0)
    assert changed_layers(two_frozen, 0) == [False, False, True, True, True, True, True]
    all_frozen = FoldTrainer(transfer_config(frozen_blocks=100), data, 0)
    assert changed_layers(all_frozen, 0) == [False] * 6 + [True]


def test_the_head_is_trained_first_and_then_all_blocks_that_are_not_frozen(
    data: TrainingData,
) -> None:
    config = transfer_config(
        head_epochs=1, head_learning_rate=0.01, frozen_blocks=1, learning_rate=0.001
    )
    trainer = FoldTrainer(config, data, 0)
    rates = [group["lr"] for group in trainer.optimization.optimizer.param_groups]
    assert set(rates) == {0.01}
    assert changed_layers(trainer, 0) == [False] * 6 + [True]
    assert changed_layers(trainer, 1) == [False] + [True] * 6
    assert max(group["lr"] for group in trainer.optimization.optimizer.param_groups) <= 0.001


def test_learning_rates_decay_by_depth_and_the_head_has_its_own_weight_decay(
    data: TrainingData,
) -> None:
    config = transfer_config(
        schedule="constant",
        weight_decay=0.1,
        layer_decay=0.5,
        head_weight_decay=0.3,
        learning_rate=0.01,
    )
    groups = FoldTrainer(config, data, 0).optimization.optimizer.param_groups
    assert [group["lr"] for group in groups] == [0.01 * 0.5**depth for depth in range(6, -1, -1)]
    assert [group["weight_decay"] for group in groups] == [0.1] * 6 + [0.3]
    assert all(len(group["params"]) for group in groups)


@pytest.mark.parametrize("stop_after", [1, 2, 3])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_transfer_in_two_stages_is_resumed_without_a_difference(
    data: TrainingData, stop_after: int, optimizer: str
) -> None:
    config = transfer_config(
        epochs=4,
        optimizer=optimizer,
        head_epochs=2,
        frozen_blocks=1,
        layer_decay=0.8,
        head_hidden_units=8,
        head_dropout=0.2,
        head_batch_norm=True,
        head_weight_decay=0.1,
    )
    results = recorded_training(config, data).results()
    assert resumed_results(config, data, stop_after) == results
