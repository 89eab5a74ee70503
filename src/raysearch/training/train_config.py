"""The configuration of the training of one trial."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.hyperparameters import TrialParams, resolve
from raysearch.config.report_interval import report_interval
from raysearch.models.encoders.encoder import Encoder
from raysearch.training.precision_settings import PrecisionSettings


@dataclass(frozen=True)
class TrainConfig:
    """The configuration of the training of one trial.

    Attributes:
        hparams: The hyperparameters of the trial.
        epochs: The number of epochs of each fold.
        metric: The objective, a metric of `raysearch.metrics.classification` or of the user's.
        seed: The seed of the trial.
        precision_settings: The precision and the memory format.
        accumulate: The number of micro-batches over which the gradient of a batch is accumulated,
            to save device memory. The gradient equals that of the batch up to rounding, except that
            batch normalization and dropout work on each micro-batch.
        weights_hash: The SHA-256 of the file of pretrained weights; empty if any is allowed.
        encoder: The description of the architecture if it is a pretrained encoder; None to read it
            from the table, or from the files of this machine.
        custom_metrics: The import paths of the metrics of the user's.
    """

    hparams: Hparams
    epochs: int
    metric: str
    seed: int
    precision_settings: PrecisionSettings = field(default_factory=PrecisionSettings)
    accumulate: int = 1
    weights_hash: str = ""
    encoder: Encoder | None = None
    custom_metrics: tuple[str, ...] = ()

    @cached_property
    def params(self) -> TrialParams:
        """The hyperparameters of the trial, with the defaults of those that it does not have."""
        return resolve(self.hparams)

    @property
    def architecture(self) -> str:
        """The name of the architecture."""
        return self.params.architecture

    @property
    def batch_size(self) -> int:
        """The number of rows of a step."""
        return self.params.batch_size

    @property
    def report_interval(self) -> int:
        """The number of epochs of a fold from one report to the next."""
        return report_interval(self.hparams, self.epochs)

    def micro_batch_size(self, num_rows: int) -> int:
        """Return the rows of a micro-batch of a batch of `num_rows`.

        It is at least 2, as batch normalization requires.
        """
        return max(2, math.ceil(num_rows / self.accumulate))
