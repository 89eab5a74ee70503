"""A module of a user's own components, and the space file beside it."""

from pathlib import Path

MODULE = """
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from {name}_layers import Block


def build(
    shape,
    num_classes,
    *,
    depth: Annotated[int, Field(ge=1, le=4, description="Blocks")] = 2,
    activation: Literal["relu", "gelu"] = "relu",
    width,
):
    blocks = [Block(width if number else shape[2], width, activation) for number in range(depth)]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))
    return nn.Sequential(*blocks, *head)


def squared_hinge(logits, labels, weight, *, margin: Annotated[float, Field(ge=0.1, le=4)] = 1.0):
    excess = (logits - logits.gather(1, labels[:, None]) + margin).relu() ** 2
    losses = excess.sum(1) - margin**2
    return losses if weight is None else losses * weight[labels]


def nadam(parameters, *, learning_rate, weight_decay):
    return torch.optim.NAdam(parameters, lr=learning_rate, weight_decay=weight_decay)


def halving(optimizer, num_steps):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 ** (2 * step / num_steps))


def noise(batch, generator, *, sigma: Annotated[float, Field(ge=0, le=1)] = 0.1):
    return batch + sigma * torch.randn(batch.shape, generator=generator).to(batch.device)


class Centered(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))

    def fit(self, patches):
        self.mean = patches.float().mean(dim=(0, 1, 2))

    def forward(self, patches):
        return (patches.float() - self.mean + 128).clamp(0, 255).to(torch.uint8)


def centered():
    return Centered()


def mean_probability(labels, probabilities):
    return float(np.mean(probabilities[np.arange(len(labels)), labels]))
"""
LAYERS = """
from torch import nn


class Block(nn.Sequential):
    def __init__(self, inputs, outputs, activation):
        function = nn.ReLU() if activation == "relu" else nn.GELU()
        super().__init__(nn.Conv2d(inputs, outputs, 3, 2, 1), nn.BatchNorm2d(outputs), function)
"""
SPACE = """
objective: {{metric: "{name}:mean_probability", mode: max}}
metrics: {name}:mean_probability
epochs: 1
trials: 2
repeats: 0
space:
  folds: 2
  architecture:
    choice:
      "{name}:build": {{depth: {{int: [1, 2]}}, activation: gelu, width: 4}}
  loss: {name}:squared_hinge
  margin: {{uniform: [0.5, 2.0]}}
  optimizer: {name}:nadam
  schedule: {name}:halving
  augment: {name}:noise
  preprocess: {name}:centered
  learning_rate: 0.003
"""


def write_own_components(folder: Path, name: str) -> Path:
    """Write the module `name`, and one that it imports, into `folder`; return its space file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(MODULE.replace("{name}", name))
    (folder / f"{name}_layers.py").write_text(LAYERS)
    space = folder / "space.yaml"
    space.write_text(SPACE.format(name=name))
    return space
