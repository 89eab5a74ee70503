"""The result of one repeat of the champion's cross-validation, without the networks."""

from __future__ import annotations

from dataclasses import dataclass

from raysearch.metrics.interval import Interval


@dataclass(frozen=True)
class RepeatResult:
    """The cross-validation of a trial, repeated with another seed.

    Attributes:
        seed: The repeat seed.
        objective: The objective of the pooled out-of-fold predictions, and its 95 % interval over
            patient-level bootstrap replicates; None if the training failed.
        failure: Why the training failed; empty if it did not.
    """

    seed: int
    objective: Interval | None
    failure: str = ""
