"""What is locked with a champion before anything is tested: its temperature and its threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from raysearch.scores.calibration import (
    CRITERIA,
    fit_temperature,
    fit_threshold,
    reliability,
    tempered,
)
from raysearch.scores.selection import MARGIN
from raysearch.search.fold_scores import OutOfFold

DEFAULT_CRITERION = next(iter(CRITERIA))


@dataclass(frozen=True)
class Options:
    """What a selection is asked for: the margin of a tie, and by what the threshold is chosen."""

    margin: float = MARGIN
    criterion: str = DEFAULT_CRITERION

    @classmethod
    def of(cls, locked: Mapping[str, Any]) -> Options:
        """Those of the last selection, as the journal has it; the defaults where there is none."""
        known = {name: locked[name] for name in ("margin", "criterion") if name in locked}
        return cls(**known)


@dataclass(frozen=True)
class Decision:
    """How the champion's scores become probabilities, and a decision.

    `threshold` is of the second class's calibrated probability, None of more than two classes;
    `error_before` and `error` are the expected calibration errors of the scores out of fold.
    """

    temperature: float
    threshold: float | None
    criterion: str
    error_before: float | None
    error: float | None

    @property
    def told(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def decide(rows: OutOfFold, criterion: str = DEFAULT_CRITERION) -> Decision:
    """The temperature and the threshold that are best for all folds' `rows` at once.

    Chosen a fold at a time they swing.
    """
    temperature = fit_temperature(rows.labels, rows.probabilities)
    calibrated = tempered(rows.probabilities, temperature)
    threshold = None
    if calibrated.shape[1] == 2:
        threshold = fit_threshold(rows.labels, calibrated[:, 1], criterion)
    before, after = (
        reliability(rows.labels, one).error for one in (rows.probabilities, calibrated)
    )
    return Decision(temperature, threshold, criterion, before, after)
