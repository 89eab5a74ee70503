"""What is locked with a champion before anything is tested: its temperature and its threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from raysearch.config.space import ChampionKind, Space
from raysearch.metrics.calibration import (
    CRITERIA,
    fit_temperature,
    fit_threshold,
    reliability,
    tempered,
)
from raysearch.metrics.model_selection import MARGIN
from raysearch.search.study.fold_scores import OutOfFold

DEFAULT_CRITERION = next(iter(CRITERIA))


@dataclass(frozen=True)
class Options:
    """What a selection is asked for: the margin of a tie, and by what the threshold is chosen.

    The champion is trained again with so many `repeats`; `kind` says what it is made of.
    """

    margin: float = MARGIN
    criterion: str = DEFAULT_CRITERION
    repeats: int = 1
    kind: ChampionKind = "refit"

    @classmethod
    def of(cls, locked: Mapping[str, Any], space: Space) -> Options:
        """Those of the last selection, as the journal has it; where there is none, of `space`."""
        names = ("margin", "criterion", "repeats", "kind")
        known = {name: locked[name] for name in names if name in locked}
        return replace(cls(repeats=space.repeats, kind=space.champion), **known)


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
