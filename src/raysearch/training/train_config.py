"""What one trial trains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raysearch.training.components import DEFAULTS
from raysearch.training.numerics import Numerics


@dataclass(frozen=True)
class TrainConfig:
    """What one trial trains: the values of its hyperparameters, and for how long.

    `epochs` is a fold's. `metric` names the objective, of `metrics.classification`.
    With `accumulate` above 1 the gradient of a batch is added up over that many micro-batches, for
    a device of little memory. It is the whole batch's up to the rounding of floats, except where
    batch norm takes the mean and variance of each micro-batch and dropout draws for each.
    """

    hparams: Mapping[str, Any]
    epochs: int
    metric: str
    seed: int
    numerics: Numerics = field(default_factory=Numerics)
    accumulate: int = 1

    def hyperparameter(self, name: str, default: Any) -> Any:
        """The value of the hyperparameter `name`, or `default` where the trial has none."""
        return self.hparams.get(name, default)

    @property
    def architecture(self) -> str:
        """The name of the architecture."""
        return str(self.hyperparameter("architecture", DEFAULTS["architecture"]))

    @property
    def batch_size(self) -> int:
        """The rows of one step."""
        return int(self.hyperparameter("batch_size", 64))

    def micro_batch(self, rows: int) -> int:
        """The rows at once of a step of `rows`: batch norm has no variance of fewer than 2."""
        return max(2, math.ceil(rows / self.accumulate))
