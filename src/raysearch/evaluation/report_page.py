"""A report as one page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from raysearch.evaluation.figures import study_figures
from raysearch.evaluation.figures_page import figures_group
from raysearch.evaluation.page import rendered
from raysearch.evaluation.report import Report, Set
from raysearch.evaluation.report_charts import (
    confusion_chart,
    coverage_chart,
    leaderboard_chart,
    learning_charts,
    ranking_charts,
    reliability_chart,
)
from raysearch.evaluation.report_pictures import Pictures
from raysearch.scores.assessment import Assessment
from raysearch.scores.bootstrap import Interval
from raysearch.scores.metrics import METRICS
from raysearch.scores.selective import Cleared

MOST_TRIALS, MOST_PATIENTS = 20, 40
Table = dict[str, Any]


def report_page(report: Report, pictures: Pictures) -> str:
    """The page as HTML."""
    plan, selection = report.plan, report.selection
    metric = plan.space.metric
    context = {
        "title": f"Report of {plan.name}",
        "facts": list(_facts(report)),
        "metric": metric,
        "leaderboard": leaderboard_chart(metric, selection, MOST_TRIALS),
        "hidden": max(len(selection.candidates) - MOST_TRIALS, 0),
        "candidates": _candidates(report),
        "corrected": str(selection.corrected),
        "margin": f"{selection.margin:g}",
        "tied": [one.trial.id for one in selection.tied],
        "sets": [_set(one) for one in report.sets],
        "learning": learning_charts(report.champion, plan.space.epochs),
        "pictures": pictures,
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
    locked = history.locked
    counts = zip(plan.class_names, plan.class_counts, strict=True)
    yield (
        "champion",
        f"{champion.id}: " + ", ".join(f"{name} {value}" for name, value in champion.knobs.items()),
    )
    yield (
        "locked",
        f"temperature {locked['temperature']:.3f}"
        + (
            ""
            if locked["threshold"] is None
            else f", threshold {locked['threshold']:.3f} by {locked['criterion']}"
        ),
    )
    yield "trials", f"{len(history.searched()):,}, of which {len(history.done()):,} finished"
    patches = ", ".join(f"{count:,} {name}" for name, count in counts)
    yield "learned from", f"{patches}; {report.selection.patients:,} patients, {plan.data}"
    sealed = len(plan.view.sealed)
    yield "put aside", f"{sealed:,} {plan.view.by}s" if sealed else "none"
    yield "data", f"fingerprint {plan.fingerprint[:12]}, split {plan.splits[0].hash[:12]}"
    yield "seed", str(plan.space.seed)
    packages = ("raysearch", "torch", "torchvision", "ray", "optuna")
    yield "versions", ", ".join(f"{one} {version(one)}" for one in packages)


def _candidates(report: Report) -> Table:
    rows = [
        [
            one.trial.id,
            _number(one.objective.value),
            _span(one.objective),
            _number(one.against.difference.value),
            "yes" if one.against.tied else "no",
            "-" if one.inference_ms is None else f"{one.inference_ms:.3g}",
            "champion" if one.trial is report.selection.chosen else "",
        ]
        for one in report.selection.candidates
    ]
    heads = ("trial", report.plan.space.metric, "95 % by patient", "to the best", "as good")
    return {"heads": [*heads, "ms a patch", ""], "rows": rows}


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
    yield _metrics(one)
    yield _classes(found)
    yield _coverage(found)
    if found.triage:
        yield _triage("Cleared without a person, by patch", found.triage)
    if found.by_patient is not None:
        yield _ranking(found)
        yield _triage("Cleared without a person, by patient", found.by_patient.triage)
        yield _patients(found)
    if found.folds:
        yield _folds(found)


def _metrics(one: Set) -> Table:
    found = one.found
    rows = [
        [name, _number(value.value), _span(value), _number(found.baseline[name])]
        for name, value in found.metrics.items()
    ]
    before = "" if one.before is None else f"{_number(one.before.error)} before the temperature"
    rows.append(["calibration error", _number(found.reliability.error), before, ""])
    heads = ["metric", "value", "95 % by patient", "guessing the shares"]
    return {"title": "Metrics", "heads": heads, "rows": rows}


def _classes(found: Assessment) -> Table:
    rows = [
        [
            one.name,
            *(
                f"{_number(value.value)} ({_span(value)})"
                for value in (one.precision, one.recall, one.f1, one.specificity)
            ),
            f"{one.support:,}",
        ]
        for one in found.classes
    ]
    heads = ["class", "precision", "recall", "F1", "specificity", "support"]
    decided = "the likeliest" if found.threshold is None else f"threshold {found.threshold:.3f}"
    return {"title": f"By class, decided by {decided}", "heads": heads, "rows": rows}


def _coverage(found: Assessment) -> Table:
    names = found.class_names
    heads = [f"{name}: {what}" for name in names for what in ("covered", "precision", "recall")]
    rows = [
        [
            f"{one.confidence:g}",
            _number(one.coverage, 3),
            f"{one.patients:,} of {one.of_patients:,}",
            _number(one.accuracy, 3),
            *(
                _number(value, 3)
                for part in one.classes
                for value in (part.coverage, part.precision, part.recall)
            ),
        ]
        for one in found.coverage
    ]
    area = "" if found.risk.augrc is None else f"; AUGRC {found.risk.augrc:.4f}"
    return {
        "title": f"Decided only where sure enough{area}",
        "heads": ["confidence", "covered", "patients", "accuracy", *heads],
        "rows": rows,
    }


def _triage(title: str, lines: Sequence[Cleared]) -> Table:
    rows = [
        [
            f"{one.confidence:g}",
            f"{one.rows:,} of {one.of:,}",
            f"{one.missed:,} of {one.positives:,}",
            f"{_number(one.missed_share.value, 3)} ({_span(one.missed_share, 3)})",
            f"{_number(one.npv.value, 3)} ({_span(one.npv, 3)})",
        ]
        for one in lines
    ]
    heads = ["confidence", "cleared", "missed", "share missed", "NPV"]
    return {"title": title, "heads": heads, "rows": rows}


def _ranking(found: Assessment) -> Table:
    of = found.by_patient
    rows = [] if of is None else [[k, _number(v.value), _span(v)] for k, v in of.auroc.items()]
    ill = 0 if of is None else int(of.table.labels.sum())
    title = f"Patients ranked: {ill:,} of {found.patients:,} have a patch of {found.class_names[1]}"
    return {"title": title, "heads": ["ranked by", "AUROC", "95 %"], "rows": rows}


def _patients(found: Assessment) -> Table:
    """The patients of whom the decided share is furthest from the true one first."""
    if found.by_patient is None:
        return {"title": "", "heads": [], "rows": []}
    of = found.by_patient.table
    true = of.positive / of.rows
    order = sorted(range(len(of.names)), key=lambda one: -abs(float(of.above[one] - true[one])))
    rows = [
        [
            str(of.names[one]),
            f"{of.rows[one]:,}",
            f"{true[one]:.3f}",
            f"{of.above[one]:.3f}",
            f"{of.mean[one]:.3f}",
            f"{of.top[one]:.3f}",
            f"{of.confident[one]:,}",
        ]
        for one in order[:MOST_PATIENTS]
    ]
    positive = found.class_names[1]
    heads = ["patient", "patches", f"truly {positive}", "decided", "mean", "highest", "confident"]
    hidden = max(len(of.names) - MOST_PATIENTS, 0)
    title = "By patient, the furthest from the truth first" + (
        f" ({hidden:,} more are nearer)" if hidden else ""
    )
    return {"title": title, "heads": heads, "rows": rows}


def _folds(found: Assessment) -> Table:
    names = [name for name in METRICS if any(name in one for one in found.folds.values())]
    rows = [
        [f"fold {fold + 1}", *(_number(values[name]) for name in names)]
        for fold, values in found.folds.items()
    ]
    rows.append(["pooled", *(_number(found.metrics[name].value) for name in names)])
    return {"title": "By fold, and pooled", "heads": ["", *names], "rows": rows}


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _span(one: Interval, digits: int = 4) -> str:
    return f"{_number(one.low, digits)} to {_number(one.high, digits)}"
