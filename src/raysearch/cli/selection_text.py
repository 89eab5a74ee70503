"""The selection of a champion as text and as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from rich.table import Table

from raysearch.metrics.interval import Interval
from raysearch.metrics.row_units import singular
from raysearch.search.journal.history import finished

if TYPE_CHECKING:
    from raysearch.cli.study_end import StudyEnd
    from raysearch.search.journal.events import ChampionDecision, Origin
    from raysearch.search.journal.history import History
    from raysearch.search.study.plan import Plan
    from raysearch.selection.selection import Candidate, Selection


# So many earlier studies are named.
MAX_NAMES = 3
# What proposed trials, in words.
ORIGINS: Mapping[Origin, str] = {
    "space": "of the space file",
    "memory": "of earlier studies",
    "prior": "of the prior",
    "model": "of the model of the learning curves",
    "sampler": "of the sampler",
    "random": "at random",
}


def selection_lines(plan: Plan, history: History, end: StudyEnd) -> list[str]:
    """Return lines that say why the champion is selected, and what its decision rule is."""
    return [
        f"Selected  {end.champion}: {_selection_reason(history, end)}",
        f"Corrected {plan.space.metric} {end.corrected}: the best of"
        f" {len(history.searched())} trials on patients that its selection did not use (BBC-CV)"
        f"{_memory_clause(plan)}",
        *repeat_lines(plan, history, end),
        _decision_line(end.decision),
        *proposal_lines(plan, history),
    ]


def proposal_lines(plan: Plan, history: History) -> list[str]:
    """Return a line on what proposed the trials; none without a memory and a prior."""
    counts = Counter(trial.origin for trial in history.searched() if trial.origin is not None)
    if not (plan.memory.sources or plan.space.prior) or not counts:
        return []
    parts = [f"{counts[origin]:,} {text}" for origin, text in ORIGINS.items() if counts[origin]]
    best = next(iter(finished(history, plan.space.mode)), None)
    suffix = f"; the best finished one is {ORIGINS[best.origin]}" if best and best.origin else ""
    return [f"Proposals {', '.join(parts)}{suffix}"]


def _memory_clause(plan: Plan) -> str:
    """What the corrected estimate does not correct: results of earlier studies on these patients.

    A study whose trials came from a memory has seen the patients of its folds before.
    """
    shared = [source for source in plan.memory.sources if source.num_shared]
    if not shared:
        return ""
    names = ", ".join(source.name for source in shared[:MAX_NAMES])
    names += f" and {len(shared) - MAX_NAMES} more" if len(shared) > MAX_NAMES else ""
    return f"; it does not correct for {names}, which the search learned from, on the same patients"


def _selection_reason(history: History, end: StudyEnd) -> str:
    margin = end.decision.margin
    if end.champion != end.chosen:
        training = "refit" if end.decision.kind == "refit" else "repeats"
        return f"the best after {end.chosen}, whose {training} failed"
    if len(end.tied) > 1:
        names = ", ".join(end.tied)
        return f"the fastest of {len(end.tied)} trials tied within {margin:g} ({names})"
    return f"no other of {len(history.done())} finished trials is tied within {margin:g}"


def _decision_line(decision: ChampionDecision) -> str:
    text = f"Decision  temperature {decision.temperature:.3f}"
    if decision.error is not None and decision.error_before is not None:
        text += (
            f" (calibration error {decision.error_before:.3f} before, {decision.error:.3f} after)"
        )
    if decision.threshold is not None:
        text += f", threshold {decision.threshold:.3f} by {decision.criterion}"
    return text


def repeat_lines(plan: Plan, history: History, end: StudyEnd) -> list[str]:
    """Return lines on the champion's repeats with new seeds; none if there are no repeats."""
    intervals = [repeat.objective for repeat in end.repeats if repeat.objective is not None]
    failures = sorted({repeat.failure for repeat in end.repeats if repeat.failure})
    facts = []
    if intervals:
        selected = end.objective.value
        seeds = "another seed" if len(intervals) == 1 else f"{len(intervals)} other seeds"
        original = "undefined" if selected is None else f"{selected:.4f}"
        facts.append(
            f"{plan.space.metric} {_mean_and_range(intervals)} with {seeds}, {original} at its"
            " selection"
        )
    if failures:
        num_failed = len(end.repeats) - len(intervals)
        facts.append(
            f"the training failed with {num_failed} of {len(end.repeats)} ({', '.join(failures)})"
        )
    lines = [f"Repeats   {'; '.join(facts)}"] if facts else []
    if end.decision.kind == "ensemble":
        folds = history.trials[end.champion].folds
        lines.append(f"Ensemble  the mean of {folds} networks, one per fold of a repeat")
    return lines


def _mean_and_range(intervals: Sequence[Interval]) -> str:
    """Return one interval, or the mean, the lowest and the highest value of several."""
    values = [interval.value for interval in intervals if interval.value is not None]
    if len(intervals) == 1 or not values:
        return str(intervals[0])
    return f"{fmean(values):.4f} ({min(values):.4f} to {max(values):.4f})"


def selection_table(plan: Plan, selection: Selection, max_rows: int | None = None) -> Table:
    """Return the finished trials, the best first, each compared with the best."""
    metric = plan.space.metric
    title = f"{metric} of {plan.name}, pooled out of fold over {selection.num_patients} patients"
    table = Table(title=title, title_justify="left")
    table.add_column("trial")
    time = f"ms per {singular(plan.unit)}"
    for name in (metric, "95 % by patient", "difference to the best", "by Holm", time):
        table.add_column(name, justify="right")
    table.add_column("")
    for candidate in selection.candidates[:max_rows]:
        table.add_row(*_candidate_row(selection, candidate))
    return table


def _candidate_row(selection: Selection, candidate: Candidate) -> list[str]:
    objective, difference = candidate.objective, candidate.comparison.difference
    is_best = candidate is selection.candidates[0]
    states = ["tied"] if candidate.comparison.tied and not is_best else []
    states += ["selected"] if candidate.trial is selection.chosen else []
    return [
        candidate.trial.id,
        four_digits(objective.value),
        f"{four_digits(objective.low)} to {four_digits(objective.high)}",
        "" if is_best else signed(difference.value),
        "" if is_best else f"{signed(difference.low)} to {signed(difference.high)}",
        "-" if candidate.inference_ms is None else f"{candidate.inference_ms:.3g}",
        ", ".join(states),
    ]


def four_digits(value: float | None) -> str:
    """Return a value with four digits, or a dash if it is undefined."""
    return "-" if value is None else f"{value:.4f}"


def signed(value: float | None) -> str:
    """Return a difference with its sign, or a dash if it is undefined."""
    return "-" if value is None else f"{value:+.4f}"
