"""The decision rule that is fixed before the held-out test: temperature and threshold."""

from __future__ import annotations

from dataclasses import dataclass

from raysearch.config.space import ChampionKind, Space
from raysearch.metrics.calibration import (
    CRITERIA,
    apply_temperature,
    fit_temperature,
    fit_threshold,
    reliability,
)
from raysearch.metrics.model_selection import MARGIN
from raysearch.search.journal.events import ChampionDecision
from raysearch.search.study.fold_scores import OutOfFold

DEFAULT_CRITERION = next(iter(CRITERIA))


@dataclass(frozen=True)
class SelectionOptions:
    """The options of a selection.

    Attributes:
        margin: The largest difference of the objective to the best trial that counts as a tie.
        criterion: The metric that the threshold maximizes.
        repeats: How often the champion's cross-validation is repeated with new seeds.
        kind: What the champion consists of.
        with_encoder: Whether the model has a copy of a frozen encoder although the license of the
            weights is unknown; None as the space says.
    """

    margin: float = MARGIN
    criterion: str = DEFAULT_CRITERION
    repeats: int = 1
    kind: ChampionKind = "refit"
    with_encoder: bool | None = None

    @classmethod
    def of(
        cls, decision: ChampionDecision | None, space: Space, with_encoder: bool | None = None
    ) -> SelectionOptions:
        """Return the options of the last selection; without one, those of `space`.

        `with_encoder` is that of the last selection.
        """
        if decision is None:
            return cls(repeats=space.repeats, kind=space.champion)
        return cls(
            decision.margin, decision.criterion, decision.repeats, decision.kind, with_encoder
        )


@dataclass(frozen=True)
class DecisionRule:
    """How the champion's scores become calibrated probabilities, and these a predicted class.

    Attributes:
        temperature: The calibration temperature.
        threshold: Threshold of the second class's calibrated probability; None for more than two
            classes.
        criterion: The metric that the threshold maximizes.
        error_before: Expected calibration error of the out-of-fold scores before calibration.
        error: Expected calibration error after calibration.
    """

    temperature: float
    threshold: float | None
    criterion: str
    error_before: float | None
    error: float | None


def fit_decision_rule(scores: OutOfFold, criterion: str = DEFAULT_CRITERION) -> DecisionRule:
    """Fit temperature and threshold on the out-of-fold scores of all folds together.

    Args:
        scores: The champion's out-of-fold scores.
        criterion: The metric that the threshold maximizes, one of `CRITERIA`.
    """
    temperature = fit_temperature(scores.labels, scores.probabilities)
    calibrated = apply_temperature(scores.probabilities, temperature)
    threshold = None
    if calibrated.shape[1] == 2:
        threshold = fit_threshold(scores.labels, calibrated[:, 1], criterion)
    return DecisionRule(
        temperature,
        threshold,
        criterion,
        error_before=reliability(scores.labels, scores.probabilities).error,
        error=reliability(scores.labels, calibrated).error,
    )
