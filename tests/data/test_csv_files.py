"""CSV files: cells are texts, no cell is a formula, and what is written is read back."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raysearch.data.csv_files import (
    csv_content,
    neutralize_cell,
    parse_csv,
    read_csv,
    restore_cell,
)
from raysearch.errors import DataError
from raysearch.printable_text import CONTROL_CHARACTERS, escape_controls, printable

CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXTS = st.text(CHARACTERS | st.sampled_from("='\\+-@\t\r\x1bx1b"))


@given(TEXTS)
@example("=1+1")
@example("'=1+1")
@example("''=1")
@example(r"\x1b")
@example(r"\x5cx1b")
@example("\\\x1b")
@example("\t=1")
def test_a_neutralized_cell_is_no_formula_and_is_restored(text: str) -> None:
    cell = neutralize_cell(text)
    assert restore_cell(cell) == text
    assert not CONTROL_CHARACTERS.search(cell)
    if cell[:1] in ("=", "+", "-", "@"):
        float(cell)  # only a number begins with a sign


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1_0.png", "'=1+1_0.png"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("\t=1", r"\x09=1"),
        ("\r=1", r"\x0d=1"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\u202eb", r"a\u202eb"),
        ("-0.25", "-0.25"),
        ("+1e-05", "+1e-05"),
        ("O'Neil", "O'Neil"),
        ("C:\\x86\\a.png", "C:\\x5cx86\\a.png"),
        ("S\\x41", "S\\x41"),
    ],
)
def test_cells(text: str, cell: str) -> None:
    assert neutralize_cell(text) == cell
    assert restore_cell(cell) == text


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=5))
def test_every_csv_reader_reads_the_cells_that_are_written(rows: list[tuple[str, str]]) -> None:
    content = csv_content(("file", "reason"), rows)
    table = parse_csv(content)
    assert table.columns == ("file", "reason")
    assert list(table.rows) == rows
    raw = list(csv.reader(io.StringIO(content.decode(), newline="")))
    assert raw[1:] == [[neutralize_cell(cell) for cell in row] for row in rows]


def test_numbers_stay_numbers_and_missing_values_are_empty() -> None:
    content = csv_content(("a", "b", "c"), [(-0.5, None, True), (7, "x;=1", "")])
    assert content == b'a,b,c\r\n-0.5,,True\r\n7,"x;=1",""\r\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a table .it is empty.; correct it"),
        (b"a,b\n1\n", "not a table .line 2 has 1 cells, and the first 2."),
        (b'a,b\n1,"2\n', "not a table .line 2: unexpected end of data."),
        (b"a,b\n1,\0\n", "not a table .it has a zero byte."),
        (b"a,b\n\xff,1\n", "not a table .not UTF-8.; save it as UTF-8"),
        (b"a,a\n1,2\n", "column 'a' twice"),
    ],
)
def test_other_files_are_rejected_in_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_csv(tmp_path / "table.csv", "a table")
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_first_column() -> None:
    assert parse_csv(b"\xef\xbb\xbfid,label\r\n007,00\r\n").rows == (("007", "00"),)


def test_printable_text_keeps_lines_and_letters() -> None:
    assert printable("a\tb\nß \x1b]0;t\x07\r\u2066") == "a\tb\nß \\x1b]0;t\\x07\\x0d\\u2066"
    assert printable(printable("\x1b")) == "\\x1b"
    assert escape_controls("a\n\\x0a") == "a\\x0a\\x5cx0a"
