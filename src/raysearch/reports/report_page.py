"""A report as one page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from raysearch.analysis.search_figures import study_figures
from raysearch.reports.evaluation_charts import (
    confusion_chart,
    coverage_chart,
    leaderboard_chart,
    learning_charts,
    ranking_charts,
    reliability_chart,
)
from raysearch.reports.galleries import Pictures
from raysearch.reports.html_page import rendered
from raysearch.reports.model_card import Card
from raysearch.reports.search_page import figures_group
from raysearch.reports.study_report import Report, Set, fresh_text
from raysearch.reports.tables import (
    Table,
    folds_table,
    hparams_text,
    judged_tables,
    metrics_table,
    number,
    patients_table,
    span,
)

MAX_TRIALS, MAX_PATIENTS = 20, 40


def study_page(report: Report, pictures: Pictures, card: Card) -> str:
    """The page as HTML."""
    plan, selection = report.plan, report.selection
    metric = plan.space.metric
    context = {
        "title": f"Report of {plan.name}",
        "facts": list(_facts(report)),
        "metric": metric,
        "leaderboard": leaderboard_chart(metric, selection, MAX_TRIALS),
        "hidden": max(len(selection.candidates) - MAX_TRIALS, 0),
        "candidates": _candidates(report),
        "corrected": str(selection.corrected),
        "margin": f"{selection.margin:g}",
        "tied": [one.trial.id for one in selection.tied],
        "sets": [_set(one) for one in report.sets],
        "learning": learning_charts(report.champion, plan.space.epochs),
        "pictures": pictures,
        "card": card,
        "notes": report.notes,
        "groups": [figures_group(one) for one in study_figures(plan, report.history)],
    }
    return rendered(Path(__file__).with_suffix(".html"), context)


def sets_page(title: str, sets: Sequence[Set]) -> str:
    """Of `sets` alone, without a study, as HTML."""
    context = {"title": title, "sets": [_set(one) for one in sets]}
    return rendered(Path(__file__).with_name("sets_page.html"), context)


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    """What is to be known first, by its name."""
    plan, history, champion = report.plan, report.history, report.champion
    decision = report.decision
    counts = zip(plan.class_names, plan.class_counts, strict=True)
    yield (
        "champion",
        f"{champion.id}: {hparams_text(champion.hparams)}",
    )
    yield (
        "locked",
        f"temperature {decision.temperature:.3f}"
        + (
            ""
            if decision.threshold is None
            else f", threshold {decision.threshold:.3f} by {decision.criterion}"
        ),
    )
    yield "with fresh seeds", fresh_text(report) or "not trained again"
    if decision.kind == "ensemble":
        yield "made of", f"the mean of {champion.folds} nets, one a fold of the first fresh seed"
    else:
        yield "made of", "one net of all patients"
    yield "trials", f"{len(history.searched()):,}, of which {len(history.done()):,} finished"
    patches = ", ".join(f"{count:,} {name}" for name, count in counts)
    yield "learned from", f"{patches}; {report.selection.num_patients:,} patients, {plan.data}"
    held_out = len(plan.view.held_out)
    yield "put aside", f"{held_out:,} {plan.view.by}s" if held_out else "none"
    yield "data", f"fingerprint {plan.fingerprint[:12]}, split {plan.splits[0].hash[:12]}"
    yield "seed", str(plan.space.seed)
    packages = ("raysearch", "torch", "torchvision", "ray", "optuna")
    yield "versions", ", ".join(f"{one} {version(one)}" for one in packages)


def _candidates(report: Report) -> Table:
    rows = [
        [
            one.trial.id,
            number(one.objective.value),
            span(one.objective),
            number(one.comparison.difference.value),
            "yes" if one.comparison.tied else "no",
            "-" if one.inference_ms is None else f"{one.inference_ms:.3g}",
            "champion" if one.trial is report.selection.chosen else "",
        ]
        for one in report.selection.candidates
    ]
    heads = ("trial", report.plan.space.metric, "95 % by patient", "to the best", "as good")
    return Table("", [*heads, "ms a patch", ""], rows)


def _set(one: Set) -> dict[str, Any]:
    found = one.found
    charts = [*ranking_charts(one.scored)]
    charts.append(("Reliability", reliability_chart(found.reliability, one.before)))
    charts.append(("Errors among what is decided on", coverage_chart(found.risk)))
    charts.append(("Confusion matrix", confusion_chart(found.confusion, found.class_names)))
    return {
        "name": one.name,
        "text": one.text,
        "support": f"{found.rows:,} patches of {found.patients:,} patients",
        "notes": one.notes,
        "tables": list(_tables(one)),
        "charts": charts,
    }


def _tables(one: Set) -> Iterator[Table]:
    found = one.found
    yield metrics_table("Metrics", found, before=one.before, in_context=one.in_context)
    yield from judged_tables(found)
    if found.patient_level is not None:
        yield patients_table(found, found.patient_level, MAX_PATIENTS)
    if found.folds:
        yield folds_table(found)
