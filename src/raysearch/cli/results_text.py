"""The figures of a study in the characters of a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group
from rich.table import Table
from rich.text import Text

from raysearch.analysis.parallel_coordinates import ParallelCoordinates
from raysearch.analysis.search_figures import SearchFigures
from raysearch.analysis.optimization_history import OptimizationHistory
from raysearch.config.space import RANGES, Hyperparameter
from raysearch.reports.search_charts import value_text

WIDEST, ROWS = 100, 8
# The eight dots of a braille character, by column and row.
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
BLANK = 0x2800
BAR, BEST, OTHER = "█", "●", "·"


def figures_text(figures: SearchFigures, width: int) -> Group:
    """The figures at `width` columns."""
    wide = min(width, WIDEST) - 1
    return Group(
        _title(f"Importance of the hyperparameters{figures.title_suffix}"),
        *_importance(figures, wide),
        Text(figures.importance_text, style="dim"),
        _title(f"{figures.metric} over fold-epochs{figures.title_suffix}"),
        *_progress(figures.optimization_history, wide),
        Text(figures.progress_text, style="dim"),
        _title(f"Where the best third lies{figures.title_suffix}"),
        _coordinates(figures.parallel_coordinates, wide),
        Text(f"{BEST} of the best, {OTHER} of the others. {figures.coordinates_text}", style="dim"),
    )


def _title(text: str) -> Text:
    return Text(f"\n{text}", style="italic")


def _importance(figures: SearchFigures, width: int) -> Iterator[Text]:
    fractions = figures.importance.fractions
    names = max((len(name) for name, _fraction in fractions), default=0)
    for name, fraction in fractions:
        bar = BAR * round(fraction * (width - names - 8))
        yield Text(f"{name:>{names}} {bar} {fraction:.0%}", no_wrap=True)


def _progress(found: OptimizationHistory, width: int) -> Iterator[Text]:
    """A chart of `ROWS` lines: a step line in braille, and the trials as dots."""
    low, high = found.scale
    columns = width - 9
    last = max(found.spent - 1, 1)

    def across(spent: int) -> int:
        return round((spent - 1) / last * (2 * columns - 1))

    def down(value: float) -> int:
        fraction = min(max((high - value) / (high - low), 0.0), 1.0)
        return round(fraction * (4 * ROWS - 1))

    cells = [[0] * columns for _ in range(ROWS)]
    ends = [*found.best_so_far[1:], (found.spent, found.best_so_far[-1][1])] if found.best_so_far else []
    for (begin, value), (end, after) in zip(found.best_so_far, ends, strict=True):
        x, y = across(end), down(value)
        _dots(cells, across(begin), x, y, y)
        _dots(cells, x, x, min(y, down(after)), max(y, down(after)))
    signs = [[chr(BLANK + cell) if cell else " " for cell in row] for row in cells]
    for point in found.points:
        row, column = down(point.objective) // 4, across(point.spent) // 2
        if not cells[row][column]:
            signs[row][column] = BEST if point.finished else OTHER
    marks = {0: f"{high:.4f}", ROWS // 2: f"{(low + high) / 2:.4f}", ROWS - 1: f"{low:.4f}"}
    for row, line in enumerate(signs):
        yield Text(f"{marks.get(row, ''):>7} ┤{''.join(line)}".rstrip(), no_wrap=True)
    first = "1" if found.spent > 1 else ""
    yield Text(f"{'':8}└{first}{found.spent:>{columns - len(first)}}", no_wrap=True)


def _dots(cells: list[list[int]], left: int, right: int, top: int, bottom: int) -> None:
    for x in range(left, right + 1):
        for y in range(top, bottom + 1):
            cells[y // 4][x // 2] |= DOTS[x % 2][y % 4]


def _coordinates(found: ParallelCoordinates, width: int) -> Table:
    """A line a hyperparameter: the trials along its range, or how many of the best took each choice."""
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False, width=width)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(ratio=1, overflow="fold")
    names = max((len(hyperparameter.name) for hyperparameter in found.hparams), default=0)
    lows = [
        value_text(hyperparameter.values[0])
        for hyperparameter in found.hparams
        if hyperparameter.kind in RANGES
    ]
    low = max(map(len, lows), default=0)
    for hyperparameter in found.hparams:
        if hyperparameter.kind in RANGES:
            line = _range_line(found, hyperparameter, low, width - names - 1)
        else:
            counts = found.choice_counts(hyperparameter)
            line = "  ".join(f"{name} {best}{BEST} of {every}" for name, best, every in counts)
        table.add_row(Text(hyperparameter.name), Text(line))
    return table


def _range_line(found: ParallelCoordinates, hyperparameter: Hyperparameter, before: int, width: int) -> str:
    """The trials along the range of `hyperparameter`, whose lowest value takes `before` columns."""
    low, high = (value_text(value) for value in hyperparameter.values)
    absent = found.num_absent(hyperparameter)
    tail = f" {high}" + (f" ({absent} without)" if absent else "")
    room = max(width - before - len(tail) - 4, 8)
    signs = ["─"] * room
    for line in reversed(found.lines):  # the best last: they stay seen
        if hyperparameter.name in line.positions:
            at = round(line.positions[hyperparameter.name] * (room - 1))
            signs[at] = BEST if line.is_best else OTHER
    return f"{low:>{before}} ├{''.join(signs)}┤{tail}"
