"""Optimizers without TorchDynamo compute what those of torch compute."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from raysearch.training.eager_execution import eager_optimizer

SCRIPT = """
import sys
import torch
from raysearch.data.shards.patches import load_patches
from raysearch.data.splits.folds import fold_indices, stratified_group_kfold
from raysearch.training.cost_measurement import net_costs
from raysearch.training.features.logistic_regression import fit_logistic_regression
from raysearch.training.loop import train
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import TrainingData

patches = load_patches(sys.argv[1])
split = stratified_group_kfold(patches.patients, patches.labels, 2, 0)
data = TrainingData(
    torch.from_numpy(patches.pixels), torch.from_numpy(patches.labels), patches.patients,
    patches.shape, patches.class_names, tuple(fold_indices(patches.patients, split)),
)
reports = []
for optimizer in ("adamw", "sgd", "adam", "rmsprop", "adadelta"):
    hparams = {"width": 4, "convolutions": 1, "optimizer": optimizer, "schedule": "cosine"}
    config = TrainConfig(hparams, 1, "auroc", 5)
    assert net_costs(config, data)["flops"] > 1000
    train(config, data, lambda *report: reports.append(report))
assert len(reports) == 10, reports
layer = torch.nn.Linear(3, 2)
fit_logistic_regression(layer, torch.randn(8, 3), lambda logits: logits.square().mean(), 0.1)
# Muon is timm's, which imports the compiler itself.
assert not {"torch._dynamo", "sympy", "sklearn", "scipy", "mlflow", "ray"} & set(sys.modules)
"""


def trained_weights(optimizer_class: Any, options: dict[str, Any]) -> list[float]:
    """The weights of a small network after three steps and a continued state."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))
    rows = torch.randn(8, 4)
    optimizer = optimizer_class(network.parameters(), lr=0.1, **options)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = network(rows).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)
    optimizer.step(closure)
    state = optimizer.state_dict()
    optimizer = optimizer_class(network.parameters(), lr=0.1, **options)
    optimizer.load_state_dict(state)
    optimizer.step(closure)
    return torch.cat([weight.flatten() for weight in network.parameters()]).tolist()


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (torch.optim.AdamW, {"fused": True}),
        (torch.optim.Adam, {"weight_decay": 0.1}),
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        (torch.optim.RMSprop, {"momentum": 0.5}),
        (torch.optim.Adadelta, {}),
        (torch.optim.LBFGS, {"line_search_fn": "strong_wolfe"}),
    ],
)
def test_steps_and_states_are_those_of_torch(
    optimizer: type[torch.optim.Optimizer], options: dict[str, Any]
) -> None:
    weights = trained_weights(optimizer, options)
    assert trained_weights(eager_optimizer(optimizer), options) == weights
    assert eager_optimizer(optimizer).__name__ == optimizer.__name__
    assert issubclass(eager_optimizer(optimizer), optimizer)


def test_hooks_and_schedules_see_each_step() -> None:
    network = nn.Linear(2, 1)
    optimizer = eager_optimizer(torch.optim.SGD)(network.parameters(), lr=0.1)
    steps = []
    optimizer.register_step_post_hook(lambda *_arguments: steps.append(1))
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    schedule.step()
    assert steps == [1]
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert all(weight.grad is not None for weight in network.parameters())
    optimizer.zero_grad()
    assert all(weight.grad is None for weight in network.parameters())


def test_the_training_of_a_convolutional_network_imports_no_compiler(shards: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(shards)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
