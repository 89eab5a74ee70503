"""How a study ended, as one record that a launcher prints, or sends to another machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from raysearch.champion.repeat_result import RepeatResult
from raysearch.errors import first_line, without_passwords
from raysearch.metrics.interval import Interval
from raysearch.search.journal.events import ChampionDecision
from raysearch.selection.stored_intervals import Intervals, selection_intervals

if TYPE_CHECKING:
    from raysearch.workflow import StudyOutcome


@dataclass(frozen=True)
class StudyEnd:
    """How a study ended.

    Attributes:
        study: Name of the study.
        champion: The trial whose model is registered.
        chosen: The selected trial; another one only if its final training failed.
        tied: The trials tied with the best, and the best.
        decision: The decision rule that is fixed before the held-out test.
        objective: The champion's objective, of pooled out-of-fold scores.
        corrected: The bias-corrected estimate of the best trial's objective.
        repeats: The repeats of the champion's cross-validation with new seeds.
        pooled_auroc: AUROC of the calibrated out-of-fold scores; None for more than two classes.
        smoothed_auroc: The same after neighbor smoothing; None if positions are unknown.
        version: Version of the registered model.
        folder: Address of the study's folder.
        store: Address of the tracking store.
        tracking_error: Why the tracking store lacks events; None if it has all.
        intervals: The objective of each finished trial's pooled out-of-fold scores.
        comparison: Address of the page that compares the trials; empty if the store is no server.
    """

    study: str
    champion: str
    chosen: str
    tied: tuple[str, ...]
    decision: ChampionDecision
    objective: Interval
    corrected: Interval
    repeats: tuple[RepeatResult, ...]
    pooled_auroc: Interval | None
    smoothed_auroc: Interval | None
    version: str
    folder: str
    store: str
    tracking_error: str | None
    intervals: Intervals = field(default_factory=dict)
    comparison: str = ""


def study_end(outcome: StudyOutcome) -> StudyEnd:
    """Summarize the outcome of a launch or of a selection."""
    champion, selection = outcome.champion, outcome.champion.selection
    smoothed = champion.smoothed_auroc
    return StudyEnd(
        study=outcome.study.plan.name,
        champion=champion.trial.id,
        chosen=selection.chosen.id,
        tied=tuple(candidate.trial.id for candidate in selection.tied),
        decision=champion.decision,
        objective=selection.candidate_of(champion.trial).objective,
        corrected=selection.corrected,
        repeats=champion.repeats,
        pooled_auroc=champion.pooled_auroc,
        smoothed_auroc=None if smoothed is None else smoothed.auroc,
        version=champion.version,
        folder=outcome.study.folder.address,
        store=without_passwords(outcome.store),
        tracking_error=None
        if outcome.tracking_error is None
        else first_line(outcome.tracking_error),
        intervals=selection_intervals(selection),
        comparison=without_passwords(outcome.comparison),
    )
