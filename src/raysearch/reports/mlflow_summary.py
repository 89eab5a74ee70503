"""Summarizes an ended study for MLflow: its champion and its best trials, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from raysearch.champion.register import Champion
from raysearch.data.pseudonyms import without_folders
from raysearch.metrics.interval import Interval
from raysearch.metrics.row_units import singular
from raysearch.reports.evaluation_tables import hparams_summary
from raysearch.search.journal.history import History
from raysearch.search.study.plan import Plan
from raysearch.search.tracking.study_summary import RankedTrial, StudySummary
from raysearch.selection.selection import Candidate

MAX_ROWS = 10


def study_summary(
    plan: Plan, history: History, champion: Champion, files: Mapping[str, bytes]
) -> StudySummary:
    """Return what MLflow gets of the result of a study.

    Args:
        plan: The plan of the study.
        history: Its trials.
        champion: Its champion.
        files: The artifacts of the parent run, by name.
    """
    headline = _headline(plan, history, champion)
    return StudySummary(
        headline=headline,
        description="\n\n".join([headline, *_facts(plan, champion), _table(plan, champion)]),
        trials={
            candidate.trial.id: RankedTrial(candidate.objective, _role(champion, candidate))
            for candidate in champion.selection.candidates
        },
        version=champion.version,
        files=files,
    )


def _headline(plan: Plan, history: History, champion: Champion) -> str:
    trial, metric = champion.trial, plan.space.metric
    objective = champion.selection.candidate_of(trial).objective
    return (
        f"**Study {plan.name}: the champion is {trial.id} with {metric} {objective}** (95 %"
        f" interval by patient). {len(history.done()):,} of {len(history.searched()):,} trials"
        " finished all folds."
    )


def _facts(plan: Plan, champion: Champion) -> Iterator[str]:
    selection, metric = champion.selection, plan.space.metric
    yield without_folders(f"Hyperparameters: {hparams_summary(champion.trial.hparams)}.")
    text = f"Bias-corrected {metric} of the best trial: {selection.corrected}."
    repeats = [str(repeat.objective) for repeat in champion.repeats if repeat.objective is not None]
    if repeats:
        text += f" Repeats with new seeds: {'; '.join(repeats)}."
    yield text
    rule = f"Decision rule: temperature {champion.decision.temperature:.3f}"
    if champion.decision.threshold is not None:
        rule += f", threshold {champion.decision.threshold:.3f}"
    yield f"{rule}. Development patients: {selection.num_patients:,}."


def _table(plan: Plan, champion: Champion) -> str:
    """Return the best trials as a Markdown table."""
    lines = [
        f"| trial | {plan.space.metric} | 95 % interval | ms per {singular(plan.unit)} | |",
        "|---|---|---|---|---|",
    ]
    for candidate in champion.selection.candidates[:MAX_ROWS]:
        time = "-" if candidate.inference_ms is None else f"{candidate.inference_ms:.3g}"
        value, interval = _value_and_interval(candidate.objective)
        role = _role(champion, candidate)
        lines.append(f"| {candidate.trial.id} | {value} | {interval} | {time} | {role} |")
    return "\n".join(lines)


def _value_and_interval(objective: Interval) -> tuple[str, str]:
    value = "-" if objective.value is None else f"{objective.value:.4f}"
    if objective.low is None or objective.high is None:
        return value, "-"
    return value, f"{objective.low:.4f} to {objective.high:.4f}"


def _role(champion: Champion, candidate: Candidate) -> str:
    if candidate.trial.id == champion.trial.id:
        return "champion"
    return "tied" if candidate.comparison.tied else ""
