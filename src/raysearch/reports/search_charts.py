"""The figures of a study as inline SVG, in the colours of the page around them."""

from __future__ import annotations

from html import escape

from raysearch.analysis.hyperparameter_importance import HyperparameterImportances
from raysearch.analysis.parallel_coordinates import ParallelCoordinates, TrialLine
from raysearch.analysis.optimization_history import OptimizationHistory
from raysearch.config.space import RANGES, Hyperparameter
from raysearch.reports.bar_charts import WIDTH, Bar, bars, svg

LEFT, RIGHT, TOP, HEIGHT, FOOT = 70, 12, 12, 220, 40
# Of the lines of hyperparameters: where a trial without the hyperparameter stands, and where the range begins.
ABSENT, BEGIN, END, ROW = 24, 80, WIDTH - 24, 84


def importance_chart(found: HyperparameterImportances) -> str:
    """A bar a hyperparameter, of which one of the whole width would be all of the variance."""
    some = [Bar(name, fraction, f"{fraction:.0%}") for name, fraction in found.fractions]
    return bars("Importance of the hyperparameters", some, full=1.0)


def progress_chart(found: OptimizationHistory, title: str) -> str:
    """The best finished trial so far as a step line, and where each trial stands as a dot."""
    low, high = found.scale
    last = max(found.spent - 1, 1)

    def x(spent: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (spent - 1) / last

    def y(value: float) -> float:
        return TOP + HEIGHT * min(max((high - value) / (high - low), 0.0), 1.0)

    parts = []
    for fraction in (0, 0.5, 1):
        value = low + fraction * (high - low)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}"'
            f' y2="{y(value):.1f}"/>'
            f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.4f}</text>'
        )
    for one in found.points:
        kind = "end" if one.finished else "point"
        said = f"{one.trial}: {one.objective:.4f} after {one.spent:,} fold-epochs of the study"
        parts.append(
            f'<circle class="{kind}" cx="{x(one.spent):.1f}" cy="{y(one.objective):.1f}" r="4">'
            f"<title>{escape(said)}</title></circle>"
        )
    if found.best_so_far:
        path = [f"M{x(found.best_so_far[0][0]):.1f} {y(found.best_so_far[0][1]):.1f}"]
        path += [f"H{x(spent):.1f}V{y(value):.1f}" for spent, value in found.best_so_far[1:]]
        parts.append(f'<path class="best" d="{"".join(path)}H{x(found.spent):.1f}"/>')
    base = TOP + HEIGHT + 18
    parts.append(
        f'<text x="{LEFT}" y="{base}">1</text>'
        f'<text x="{WIDTH - RIGHT}" y="{base}" text-anchor="end">{found.spent:,}</text>'
        f'<text x="{WIDTH / 2}" y="{base}" text-anchor="middle">fold-epochs of the study</text>'
    )
    return svg(title, TOP + HEIGHT + FOOT, parts)


def coordinates_chart(found: ParallelCoordinates, metric: str) -> str:
    """A horizontal axis a hyperparameter, and a line a trial from the first to the last of them."""
    # The best are drawn last, over the others.
    parts = [_line(found, line, metric) for line in reversed(found.lines)]
    parts += [_axis(found, hyperparameter, row) for row, hyperparameter in enumerate(found.hparams)]
    title = (
        f"The hyperparameters of {len(found.lines)} trials, the best {found.num_best} of them in colour"
    )
    return svg(title, ROW * len(found.hparams) + 8, parts)


def _line(found: ParallelCoordinates, line: TrialLine, metric: str) -> str:
    dots = []
    for row, hyperparameter in enumerate(found.hparams):
        fraction = line.positions.get(hyperparameter.name)
        dots.append(
            (ABSENT if fraction is None else BEGIN + fraction * (END - BEGIN), _middle(row))
        )
    path = " ".join(f"{x:.1f},{y}" for x, y in dots)
    value = f"{line.trial.objective:.4f}"
    said = ", ".join(f"{name} {value_text(one)}" for name, one in line.trial.hparams.items())
    return (
        f'<g class="{"best" if line.is_best else "other"}">'
        f"<title>{escape(f'{line.trial.id}: {metric} {value}; {said}')}</title>"
        f'<polyline points="{path}"/>'
        + "".join(f'<circle cx="{x:.1f}" cy="{y}" r="3"/>' for x, y in dots)
        + "</g>"
    )


def _axis(found: ParallelCoordinates, hyperparameter: Hyperparameter, row: int) -> str:
    y = _middle(row)
    scale = ", logarithmic" if hyperparameter.kind.startswith("log") else ""
    parts = [
        f'<line x1="{BEGIN}" x2="{END}" y1="{y}" y2="{y}"/>'
        f'<text class="name" x="{BEGIN}" y="{y - 12}">{escape(hyperparameter.name + scale)}</text>'
    ]
    if found.num_absent(hyperparameter):
        parts.append(f'<text class="small" x="4" y="{y + 18}">without</text>')
    values = hyperparameter.values
    for number, value in enumerate(values):
        x = BEGIN + (END - BEGIN) * number / (len(values) - 1)
        anchor = "start" if number == 0 else "end" if number == len(values) - 1 else "middle"
        text = value_text(value)
        short = text if hyperparameter.kind in RANGES or len(text) <= 14 else f"{text[:13]}…"
        parts.append(
            f'<text class="small" x="{x:.1f}" y="{y + 18}" text-anchor="{anchor}">'
            f"{escape(short)}</text>"
        )
    return "".join(parts)


def _middle(row: int) -> int:
    return ROW * row + 30


def value_text(value: object) -> str:
    """A hyperparameter's value with few digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
