"""Writes and reads CSV files whose cells are texts: no type is guessed, and no cell is a formula.

A spreadsheet evaluates a cell that begins with `=`, `+`, `-` or `@`, and an escape sequence in a
cell changes a terminal. Files, patients and classes are named by others, so their cells are
neutralized when they are written, and restored when they are read (OWASP, "CSV Injection").
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from raysearch.data.files import open_regular
from raysearch.errors import DataError, first_line
from raysearch.printable_text import escape_controls, unescape_controls

# Also the full-width forms, which spreadsheets read as the same.
FORMULA_STARTS = ("=", "+", "-", "@", "\N{FULLWIDTH EQUALS SIGN}", "\N{FULLWIDTH PLUS SIGN}",
                  "\N{FULLWIDTH HYPHEN-MINUS}", "\N{FULLWIDTH COMMERCIAL AT}")  # fmt: skip
# The characters that separate cells in some country's settings, and the quote.
SEPARATORS = frozenset(',;|\t"')
# A number with a sign is no formula, and stays a number.
NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class TextTable:
    """A CSV file: its columns, its rows of as many texts, and the line at which each row ends."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]

    def column(self, name: str) -> list[str]:
        """Return the texts of the column `name`."""
        index = self.columns.index(name)
        return [row[index] for row in self.rows]


def clean_name(text: str) -> str:
    """Return a name without blanks at its ends, in composed Unicode, as shards have it."""
    return normalize("NFC", text).strip()


def neutralize_cell(text: str) -> str:
    """Return `text` as a cell that is no formula and has no control character.

    A text that would be a formula gets a single quote in front, as one that already has such a
    quote does; `restore_cell` removes it.
    """
    visible = escape_controls(text)
    return f"'{visible}" if _is_formula(visible) else visible


def restore_cell(cell: str) -> str:
    """Return the text of which `neutralize_cell` made `cell`."""
    is_quoted = cell.startswith("'") and _is_formula(cell)
    return unescape_controls(cell[1:] if is_quoted else cell)


def _is_formula(text: str) -> bool:
    content = text.lstrip("'")
    return content.startswith(FORMULA_STARTS) and not NUMBER.fullmatch(content)


def csv_content(header: Iterable[str], rows: Iterable[Iterable[object]]) -> bytes:
    """Return a CSV file with neutralized texts; numbers stay numbers, and None is an empty cell.

    A file name that is not UTF-8 keeps its bytes.
    """
    lines = [",".join(map(_cell, row)) for row in (header, *rows)]
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "surrogateescape")


def _cell(value: object) -> str:
    """Return a cell, in quotes if some spreadsheet would divide it or trim it."""
    if not isinstance(value, str):
        return "" if value is None else str(value)
    cell = neutralize_cell(value)
    is_plain = not SEPARATORS & set(cell) and cell == cell.strip() and bool(cell)
    return cell if is_plain else '"{}"'.format(cell.replace('"', '""'))


def parse_csv(content: bytes) -> TextTable:
    """Read a CSV file as texts; a byte order mark at its start is no part of the first column.

    Raises:
        ValueError: If it is no CSV file, or a row has another number of cells than the first.
    """
    text = content.decode("utf-8-sig", "surrogateescape")
    if "\0" in text:
        raise ValueError("it has a zero byte")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows, lines = [], []
    try:
        for row in reader:
            if row:
                rows.append(tuple(map(restore_cell, row)))
                lines.append(reader.line_num)
            if row and len(row) != len(rows[0]):
                raise ValueError(
                    f"line {reader.line_num} has {len(row)} cells, and the first {len(rows[0])}"
                )
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from None
    if not rows:
        raise ValueError("it is empty")
    return TextTable(rows[0], tuple(rows[1:]), tuple(lines[1:]))


def read_csv(path: Path, kind: str) -> TextTable:
    """Read the CSV file at `path`; the error of one that cannot be read names its `kind`.

    Raises:
        DataError: If it cannot be read, is no CSV file, is not UTF-8, or names a column twice.
    """
    try:
        with open_regular(path) as file:
            table = parse_csv(file.read())
        "".join([*table.columns, *map("".join, table.rows)]).encode()
    except UnicodeError:
        raise DataError(f"{path}: not {kind} (not UTF-8); save it as UTF-8") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not {kind} ({first_line(error)}); correct it") from None
    repeated = sorted({name for name in table.columns if table.columns.count(name) > 1})
    if repeated:
        raise DataError(f"{path}: column {repeated[0]!r} twice; keep one of them")
    return table


def neutralize_columns(columns: Sequence[str | None]) -> list[str | None]:
    """Return the cells of a column of texts, neutralized; None stays None."""
    return [None if text is None else neutralize_cell(text) for text in columns]
