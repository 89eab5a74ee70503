"""The figures of a study in the characters of a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group
from rich.table import Table
from rich.text import Text

from raysearch.analysis.optimization_history import OptimizationHistory
from raysearch.analysis.parallel_coordinates import ParallelCoordinates, value_text
from raysearch.analysis.search_figures import SearchFigures
from raysearch.config.space import RANGES, Hyperparameter

MAX_WIDTH, NUM_ROWS = 100, 8
# The eight dots of a braille character, by column and row.
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
DOT_COLUMNS, DOT_ROWS = 2, 4
BLANK = 0x2800
BAR, BEST, OTHER = "█", "●", "·"
MIN_RANGE_WIDTH = 8


def figures_text(figures: SearchFigures, width: int) -> Group:
    """Return the figures for a terminal of `width` columns."""
    text_width = min(width, MAX_WIDTH) - 1
    suffix = figures.title_suffix
    return Group(
        _title(f"Importance of the hyperparameters{suffix}"),
        *_importance_bars(figures, text_width),
        Text(figures.importance_text, style="dim"),
        _title(f"{figures.metric} over fold-epochs{suffix}"),
        *_history_chart(figures.optimization_history, text_width),
        Text(figures.progress_text, style="dim"),
        _title(f"Hyperparameters of the best third{suffix}"),
        _coordinates_table(figures.parallel_coordinates, text_width),
        Text(f"{BEST} of the best, {OTHER} of the others. {figures.coordinates_text}", style="dim"),
    )


def _title(text: str) -> Text:
    return Text(f"\n{text}", style="italic")


def _importance_bars(figures: SearchFigures, width: int) -> Iterator[Text]:
    fractions = figures.importance.fractions
    name_width = max((len(name) for name, _fraction in fractions), default=0)
    for name, fraction in fractions:
        bar = BAR * round(fraction * (width - name_width - 8))
        yield Text(f"{name:>{name_width}} {bar} {fraction:.0%}", no_wrap=True)


class _BrailleChart:
    """A chart of braille dots: the best objective as a step line, the trials as points.

    Args:
        history: What the chart shows.
        num_columns: Characters of a line.
    """

    def __init__(self, history: OptimizationHistory, num_columns: int) -> None:
        self._history = history
        self._cells = [[0] * num_columns for _ in range(NUM_ROWS)]
        self._max_x = DOT_COLUMNS * num_columns - 1

    def lines(self) -> list[str]:
        """Return the lines of the chart, from the top."""
        self._draw_steps()
        characters = [[chr(BLANK + cell) if cell else " " for cell in row] for row in self._cells]
        for point in self._history.points:
            row, column = self._y(point.objective) // DOT_ROWS, self._x(point.spent) // DOT_COLUMNS
            if not self._cells[row][column]:
                characters[row][column] = BEST if point.finished else OTHER
        return ["".join(row) for row in characters]

    def _draw_steps(self) -> None:
        steps = self._history.best_so_far
        if not steps:
            return
        ends = [*steps[1:], (self._history.spent, steps[-1][1])]
        for (start, value), (end, next_value) in zip(steps, ends, strict=True):
            x, y, next_y = self._x(end), self._y(value), self._y(next_value)
            self._fill(self._x(start), x, y, y)
            self._fill(x, x, min(y, next_y), max(y, next_y))

    def _fill(self, left: int, right: int, top: int, bottom: int) -> None:
        for x in range(left, right + 1):
            for y in range(top, bottom + 1):
                dot = DOTS[x % DOT_COLUMNS][y % DOT_ROWS]
                self._cells[y // DOT_ROWS][x // DOT_COLUMNS] |= dot

    def _x(self, spent: int) -> int:
        return round((spent - 1) / max(self._history.spent - 1, 1) * self._max_x)

    def _y(self, value: float) -> int:
        low, high = self._history.scale
        fraction = min(max((high - value) / (high - low), 0.0), 1.0)
        return round(fraction * (DOT_ROWS * NUM_ROWS - 1))


def _history_chart(history: OptimizationHistory, width: int) -> Iterator[Text]:
    """Yield the lines of a chart with its axes."""
    low, high = history.scale
    num_columns = width - 9
    labels = {
        0: f"{high:.4f}",
        NUM_ROWS // 2: f"{(low + high) / 2:.4f}",
        NUM_ROWS - 1: f"{low:.4f}",
    }
    for row, line in enumerate(_BrailleChart(history, num_columns).lines()):
        yield Text(f"{labels.get(row, ''):>7} ┤{line}".rstrip(), no_wrap=True)
    first = "1" if history.spent > 1 else ""
    yield Text(f"{'':8}└{first}{history.spent:>{num_columns - len(first)}}", no_wrap=True)


def _coordinates_table(coordinates: ParallelCoordinates, width: int) -> Table:
    """Return a line for each hyperparameter.

    The line of a range shows the trials along it; that of a choice, how many of the best trials
    have each value.
    """
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False, width=width)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(ratio=1, overflow="fold")
    name_width = max((len(hparam.name) for hparam in coordinates.hparams), default=0)
    lows = [value_text(hparam.values[0]) for hparam in coordinates.hparams if hparam.kind in RANGES]
    low_width = max(map(len, lows), default=0)
    for hparam in coordinates.hparams:
        if hparam.kind in RANGES:
            line = _range_line(coordinates, hparam, low_width, width - name_width - 1)
        else:
            counts = coordinates.choice_counts(hparam)
            line = "  ".join(f"{value} {best}{BEST} of {total}" for value, best, total in counts)
        table.add_row(Text(hparam.name), Text(line))
    return table


def _range_line(
    coordinates: ParallelCoordinates, hparam: Hyperparameter, low_width: int, width: int
) -> str:
    """Return the trials along the range of `hparam`; its low end takes `low_width` columns."""
    low, high = (value_text(value) for value in hparam.values)
    num_absent = coordinates.num_absent(hparam)
    end = f" {high}" + (f" ({num_absent} without)" if num_absent else "")
    length = max(width - low_width - len(end) - 4, MIN_RANGE_WIDTH)
    characters = ["─"] * length
    for line in reversed(coordinates.lines):  # the best last, so that no other covers them
        if hparam.name in line.positions:
            column = round(line.positions[hparam.name] * (length - 1))
            characters[column] = BEST if line.is_best else OTHER
    return f"{low:>{low_width}} ├{''.join(characters)}┤{end}"
