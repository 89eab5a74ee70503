"""The charts of a report, of sets that were judged and of a trial's folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from raysearch.metrics.calibration import Reliability
from raysearch.metrics.curves import Curve, precision_recall_curve, roc_curve
from raysearch.metrics.evaluation import ScoredRows
from raysearch.metrics.selective_prediction import RiskCoverage
from raysearch.reports.bar_charts import WIDTH, svg
from raysearch.reports.line_charts import Axes, Series, line_chart
from raysearch.search.journal.history import Trial
from raysearch.selection.selection import Candidate, Selection

# What is drawn over the epochs of each fold.
LEARNING = ("loss", "accuracy", "precision", "recall", "f1", "auroc")
MAX_POINTS = 400
CELL, HEAD, SIDE = 64, 56, 170
ROW, FIRST, NAMES = 26, 34, 86


def ranking_charts(scored: ScoredRows) -> list[tuple[str, str]]:
    """ROC and precision-recall curves by their titles: of the second of two classes, or of each."""
    names = scored.class_names
    numbers = [1] if len(names) == 2 else list(range(len(names)))
    curves = []
    for number in numbers:
        labels = (scored.labels == number).astype(np.int64)
        if 0 < labels.sum() < len(labels):
            scores = scored.probabilities[:, number]
            pair = [
                one(labels, scores, scored.patients) for one in (roc_curve, precision_recall_curve)
            ]
            curves.append((names[number], pair, float(labels.mean())))
    if not curves:
        return []
    roc = [_series(name, pair[0]) for name, pair, _fraction in curves]
    recall = [_series(name, pair[1]) for name, pair, _fraction in curves]
    if len(names) == 2:
        fraction = curves[0][2]
        ends = np.array([0.0, 1.0])
        recall.append(Series(f"guessing ({fraction:.2f})", ends, np.array([fraction, fraction])))
    titles = ("ROC curve", "Precision over recall")
    axes = (Axes("false positive rate", "true positive rate"), Axes("recall", "precision"))
    return [
        (titles[0], line_chart(titles[0], axes[0], roc, even=True)),
        (titles[1], line_chart(titles[1], axes[1], recall)),
    ]


def _series(name: str, curve: Curve) -> Series:
    return Series(name, curve.x, curve.value, curve.low, curve.high)


def reliability_chart(after: Reliability, before: Reliability | None) -> str:
    """How often the sure ones are right; before the temperature, too, where that is known."""
    found = [Series("calibrated", *_known(after))]
    if before is not None:
        found.append(Series("before", *_known(before)))
    axes = Axes("how sure", "how often right")
    return line_chart("Reliability: how often right, by how sure", axes, found, even=True)


def _known(one: Reliability) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    full = one.rows > 0
    return one.confidence[full], one.accuracy[full]


def coverage_chart(risk: RiskCoverage) -> str:
    """The share of errors among what is decided on, over the share that is."""
    some = np.unique(np.linspace(0, len(risk.risk) - 1, MAX_POINTS).astype(np.int64))
    high = max(float(risk.risk[some].max()), 0.01)
    axes = Axes("share decided on, the surest first", "errors among them", y_range=(0.0, high))
    line = Series("errors", risk.coverage[some], risk.risk[some])
    return line_chart("Errors among what is decided on", axes, [line])


def confusion_chart(counts: NDArray[np.int64], names: Sequence[str]) -> str:
    """Counts, and shares of the row: the true class of each row, the decided one of each column."""
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cell = min(120, (WIDTH - SIDE) // len(names))
    parts = [
        f'<text x="{SIDE}" y="16" class="small">decided</text>'
        f'<text x="{SIDE - 10}" y="{HEAD - 8}" text-anchor="end" class="small">true</text>'
    ]
    for place, name in enumerate(names):
        x, y = SIDE + place * cell + cell / 2, HEAD + place * CELL + CELL / 2
        short = name if len(name) <= 18 else f"{name[:17]}…"
        parts.append(
            f'<text x="{x}" y="{HEAD - 8}" text-anchor="middle">{escape(short)}</text>'
            f'<text x="{SIDE - 10}" y="{y + 4}" text-anchor="end">{escape(short)}</text>'
        )
    for row, column in np.ndindex(counts.shape):
        count, fraction = int(counts[row, column]), float(fractions[row, column])
        x, y = SIDE + column * cell, HEAD + row * CELL
        said = f"{names[row]} decided as {names[column]}: {count:,} ({fraction:.1%})"
        parts.append(
            f"<g><title>{escape(said)}</title>"
            f'<rect class="cell" x="{x + 1}" y="{y + 1}" width="{cell - 2}" height="{CELL - 2}"'
            f' fill-opacity="{0.08 + 0.6 * fraction:.2f}"/>'
            f'<text x="{x + cell / 2}" y="{y + 28}" text-anchor="middle">{count:,}</text>'
            f'<text x="{x + cell / 2}" y="{y + 46}" text-anchor="middle" class="small">'
            f"{fraction:.1%}</text></g>"
        )
    title = "Confusion matrix: rows are true classes, columns decided ones"
    return svg(title, HEAD + CELL * len(names) + 8, parts)


def learning_charts(trial: Trial, epochs: int) -> list[tuple[str, str]]:
    """Each measure over the epochs, a line a fold, by its name."""
    found = []
    for name in LEARNING:
        series = []
        for fold in range(trial.folds):
            some = [one for one in trial.reports if one.fold == fold]
            values = [one.loss if name == "loss" else one.metrics.get(name) for one in some]
            x = np.arange(1, len(values) + 1, dtype=np.float64)
            y = np.array([np.nan if one is None else one for one in values], np.float64)
            if np.isfinite(y).any():
                series.append(Series(f"fold {fold + 1}", x, y))
        if series:
            every = np.concatenate([one.y for one in series])
            low, high = float(np.nanmin(every)), float(np.nanmax(every))
            axes = Axes("epoch", name, (1.0, float(max(epochs, 2))), (low, max(high, low + 1e-6)))
            found.append((name, line_chart(f"{name} of each fold over its epochs", axes, series)))
    return found


def leaderboard_chart(metric: str, selection: Selection, most: int) -> str:
    """A dot a trial with its interval, the best first; filled ones are as good as the best."""
    some = selection.candidates[:most]
    bounds = [
        value
        for one in some
        for value in (one.objective.low, one.objective.value, one.objective.high)
        if value is not None
    ]
    low, high = min(bounds), max(bounds)
    left, right = NAMES, WIDTH - 70

    def across(value: float) -> float:
        return left + (right - left) * (value - low) / ((high - low) or 1)

    parts = [_candidate(one, place, across, selection) for place, one in enumerate(some)]
    foot = FIRST + ROW * len(some)
    parts.append(
        f'<text x="{left}" y="{foot + 10}">{low:.4f}</text>'
        f'<text x="{right}" y="{foot + 10}" text-anchor="end">{high:.4f}</text>'
        f'<text x="{(left + right) / 2}" y="{foot + 10}" text-anchor="middle">{escape(metric)}'
        "</text>"
    )
    return svg(f"{metric} of the finished trials, with 95 % intervals by patient", foot + 20, parts)


def _candidate(
    one: Candidate, place: int, across: Callable[[float], float], selection: Selection
) -> str:
    y = FIRST - 18 + ROW * place
    value = one.objective.value or 0.0
    low = value if one.objective.low is None else one.objective.low
    high = value if one.objective.high is None else one.objective.high
    chosen = one.trial is selection.chosen
    tied = "tied with the best" if one.comparison.tied else "not shown to be as good"
    said = f"{one.trial.id}: {one.objective}, {tied}{', the champion' if chosen else ''}"
    return (
        f'<g class="{"tied" if one.comparison.tied else "apart"}"><title>{escape(said)}</title>'
        f'<text x="{NAMES - 12}" y="{y + 4}" text-anchor="end">{"★ " if chosen else ""}'
        f"{escape(one.trial.id)}</text>"
        f'<line x1="{across(low):.1f}" x2="{across(high):.1f}" y1="{y}" y2="{y}"/>'
        f'<circle cx="{across(value):.1f}" cy="{y}" r="6"/>'
        f'<text x="{WIDTH - 4}" y="{y + 4}" text-anchor="end">{value:.4f}</text></g>'
    )
