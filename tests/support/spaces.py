"""Search spaces for tests: one with every key, and a small one."""

from typing import Any

import pytest
import yaml

from raysearch.config.space import Space
from raysearch.config.space_file import parse_space
from raysearch.errors import SpaceError

FULL = """
task: label
split: mine
data: synthetic:24:1200:0
auxiliary: [data/secm]
objective: {metric: auroc, mode: max}
epochs: 20
trials: 16
seed: 3
sampler: {name: tpe, n_startup_trials: 10, multivariate: true, constant_liar: true}
stopping: {rule: promotion, grace_period: 2, reduction_factor: 4, patience: 5, paired_alpha: 0.2}
budget: {hours: 2, gpu_hours: 10, dollars: 5, fold_epochs: 400, no_improvement: 20, target: 0.95}
resources: {cpus: 1, gpus: 0.5, prices: {m5.large: 0.10, g5.xlarge: 1.01}}
points_to_evaluate:
  - {learning_rate: 0.001, architecture: cnn}
  - {optimizer: sgd, momentum: 0.9, head: flat, hidden_units: 64}
constraints:
  - width * convolutions <= 64
  - learning_rate < 0.1 * weight_decay or optimizer == 'sgd'
limits: {parameters: 1000000, inference_ms: 2.0}
warm_start: [first, second]
space:
  folds: 3
  learning_rate: {loguniform: [1.0e-4, 1.0e-2]}
  weight_decay: {uniform: [0.01, 0.1]}
  architecture:
    choice:
      benchmark:
      cnn:
        width: {logint: [8, 64]}
        convolutions: {int: [1, 3]}
        head:
          choice: {pooled: {}, flat: {hidden_units: {logint: [16, 256]}}}
  optimizer:
    choice:
      adamw: {beta2: {uniform: [0.9, 0.999]}}
      sgd: {momentum: {uniform: [0.5, 0.95]}, nesterov: {choice: [true, false]}}
"""
HPARAMS: dict[str, Any] = {
    "learning_rate": {"loguniform": [1e-4, 1e-2]},
    "width": {"choice": [8, 16]},
    "batch_size": {"int": [8, 64]},
    "optimizer": {"choice": {"adamw": {}, "sgd": {"momentum": {"uniform": [0.5, 0.9]}}}},
}


def full_space() -> Space:
    """Return the space of `FULL`."""
    return parse_space(yaml.safe_load(FULL), "x")


def rejection(**sections: Any) -> str:
    """Return the message that rejects `HPARAMS` with `sections`."""
    with pytest.raises(SpaceError) as rejected:
        parse_space({"space": HPARAMS, **sections}, "x")
    return str(rejected.value)
