"""Fits a table into the width of a console, without cutting a number in it.

Rich cuts the cells of a table that is too wide, also numbers: 0.9428 becomes `0...`. A table fits
if each of its columns has the width of its longest number, and of some characters of its texts,
which can be folded. One that does not fit is turned, so that each of its columns is a row; if it
still does not fit, its columns are divided over several tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Column, Table
from rich.text import Text

# A text is folded to lines of at least so many characters.
MIN_TEXT_WIDTH = 16


@dataclass(frozen=True)
class _Grid:
    """The texts of a table: the header of each column, and its cells."""

    headers: tuple[Text, ...]
    columns: tuple[tuple[Text, ...], ...]
    justify: tuple[JustifyMethod, ...]

    def required_width(self, index: int) -> int:
        """The smallest width of a column at which no number in it is cut."""
        words = [word for cell in self.columns[index] for word in cell.plain.split()]
        numbers = [cell_len(word) for word in words if any(map(str.isdigit, word))]
        texts = [cell_len(word) for word in (*words, *self.headers[index].plain.split())]
        short = min(max(texts, default=1), MIN_TEXT_WIDTH)
        is_number = self.justify[index] == "right"
        return max(short, max(numbers, default=1)) if is_number else short

    def natural_width(self, index: int) -> int:
        """The width of a column in which no cell is wrapped."""
        cells = (self.headers[index], *self.columns[index])
        return max([1, *(cell_len(line) for cell in cells for line in cell.plain.split("\n"))])

    def transposed(self) -> _Grid:
        """Return the grid with a row for each column: the first column becomes the headers."""
        first, *others = self.columns
        headers = (self.headers[0], *first)
        rows = zip(*others, strict=True) if others else ()
        columns = (self.headers[1:], *rows)
        right: list[JustifyMethod] = ["right"] * len(first)
        return _Grid(headers, columns, ("left", *right))

    def select(self, indices: Sequence[int]) -> _Grid:
        """Return the columns with these indices."""
        return _Grid(
            tuple(self.headers[index] for index in indices),
            tuple(self.columns[index] for index in indices),
            tuple(self.justify[index] for index in indices),
        )


def fit_table(table: Table, console: Console) -> list[Table]:
    """Return `table` as it is if the console is wide enough, else one or more tables that fit.

    Only tables with a header are turned or divided; the texts of others are folded.
    """
    if not table.columns or table.box is None:
        return [table]
    grid = _Grid(
        tuple(_text(console, column.header) for column in table.columns),
        tuple(tuple(_text(console, cell) for cell in column.cells) for column in table.columns),
        tuple(column.justify for column in table.columns),
    )
    natural = sum(grid.natural_width(index) for index in range(len(grid.columns)))
    if natural + _border_width(len(grid.columns)) <= console.width:
        return [table]
    if not table.show_header or _fits(grid, console.width):
        _set_widths(table.columns, grid, console.width)
        return [table]
    transposed = grid.transposed()
    if _fits(transposed, console.width):
        return [_build(table, transposed, console.width)]
    blocks = _blocks(
        transposed if len(transposed.columns) < len(grid.columns) else grid, console.width
    )
    return [_build(table, block, console.width) for block in blocks]


def _text(console: Console, cell: object) -> Text:
    """Return a cell as text; a cell that is neither text nor markup is shown empty when turned."""
    if isinstance(cell, Text):
        return cell
    return console.render_str(cell) if isinstance(cell, str) else Text()


def _border_width(num_columns: int) -> int:
    """The width of the borders, and of a blank at each side of a cell."""
    return 3 * num_columns + 1


def _fits(grid: _Grid, width: int) -> bool:
    required = sum(grid.required_width(index) for index in range(len(grid.columns)))
    return required + _border_width(len(grid.columns)) <= width


def _blocks(grid: _Grid, width: int) -> list[_Grid]:
    """Divide the columns into blocks that fit, each with the first column at its left."""
    blocks, block = [], [0]
    for index in range(1, len(grid.columns)):
        if len(block) > 1 and not _fits(grid.select([*block, index]), width):
            blocks.append(grid.select(block))
            block = [0]
        block.append(index)
    return [*blocks, grid.select(block)]


def _set_widths(columns: Sequence[Column], grid: _Grid, width: int) -> None:
    """Set the widths of the columns, narrowing the widest ones that can be narrower."""
    indices = range(len(grid.columns))
    widths = [grid.natural_width(index) for index in indices]
    required = [grid.required_width(index) for index in indices]
    excess = sum(widths) + _border_width(len(widths)) - width
    while excess > 0:
        flexible = [index for index in indices if widths[index] > required[index]]
        if not flexible:
            break
        widest = max(flexible, key=lambda index: widths[index])
        widths[widest] -= 1
        excess -= 1
    for column, column_width in zip(columns, widths, strict=True):
        column.width, column.no_wrap, column.overflow = column_width, False, "fold"


def _build(table: Table, grid: _Grid, width: int) -> Table:
    """Return a table of the `grid` with the title and the caption of `table`."""
    result = Table(
        title=table.title,
        caption=table.caption,
        title_justify=table.title_justify,
        caption_justify=table.caption_justify,
        box=table.box,
    )
    for header, justify in zip(grid.headers, grid.justify, strict=True):
        result.add_column(header, justify=justify)
    for row in zip(*grid.columns, strict=True):
        result.add_row(*row)
    _set_widths(result.columns, grid, width)
    return result
