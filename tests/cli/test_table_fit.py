"""Tables on a narrow console: no number is cut, and control characters are visible."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from raysearch.cli.evaluation_text import evaluation_tables
from raysearch.cli.safe_console import SafeConsole
from raysearch.metrics.evaluation import ScoredRows, evaluate_predictions


def printed(table: Table | str | Text, width: int) -> str:
    """Return what a console of `width` columns prints."""
    console = SafeConsole(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in text.splitlines())
    return str(text)


def wide_table(num_columns: int, num_rows: int) -> Table:
    table = Table("fold", title="Split")
    for number in range(num_columns):
        table.add_column(f"class {number}", justify="right")
    for row in range(num_rows):
        cells = (f"{row}.{number:05d}" for number in range(num_columns))
        table.add_row(str(row), *cells)
    return table


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+\.\d{5}", text))


@pytest.mark.parametrize(("num_columns", "num_rows"), [(4, 3), (50, 3), (80, 1), (200, 30)])
@pytest.mark.parametrize("width", [80, 160])
def test_no_number_of_a_wide_table_is_cut(num_columns: int, num_rows: int, width: int) -> None:
    text = printed(wide_table(num_columns, num_rows), width)
    assert numbers(text) == {
        f"{row}.{number:05d}" for row in range(num_rows) for number in range(num_columns)
    }
    assert "…" not in text
    assert "Split" in text


def test_a_wide_table_is_turned_to_one_row_for_each_column() -> None:
    lines = printed(wide_table(50, 3), 80).splitlines()
    (row,) = [line for line in lines if "class 17" in line]
    assert numbers(row) == {"0.00017", "1.00017", "2.00017"}


def test_a_table_that_fits_is_unchanged() -> None:
    assert (
        len([line for line in printed(wide_table(3, 2), 80).splitlines() if "class" in line]) == 1
    )


def test_long_texts_are_folded_and_not_cut() -> None:
    table = Table(show_header=False)
    table.add_row("source", "/a/very/long/path" * 10)
    text = re.sub(r"[^/\w]", "", printed(table, 60))
    assert "/a/very/long/path" * 10 in text


@pytest.mark.parametrize("num_classes", [2, 3, 4, 50])
@pytest.mark.parametrize("width", [80, 160])
def test_the_tables_of_an_evaluation_show_every_number(num_classes: int, width: int) -> None:
    rng = np.random.default_rng(0)
    names = ("class [/] 0", *(f"class {number}" for number in range(1, num_classes)))
    labels = np.arange(4 * num_classes) % num_classes
    probabilities = rng.dirichlet(np.full(num_classes, 0.3), len(labels))
    patients = np.array([f"p{number}" for number in range(len(labels))])
    evaluation = evaluate_predictions(ScoredRows(labels, probabilities, patients, names))
    for table in evaluation_tables("Test", evaluation, None):
        text = printed(table, width)
        assert not re.search(r"\d…|\.{3}", text)
        if num_classes == 50 and table.columns[0].header == "class":
            assert len(re.findall(r"class \[?\d|class \[/", text)) == num_classes


@pytest.mark.parametrize("name", ["a\x1b[31m", "b\x07", "c\rd", "e\u202ef", "g\x9b31m"])
def test_control_characters_are_visible(name: str) -> None:
    table = Table("class")
    table.add_row(escape(name))
    table.add_row(Text(name))
    for item in (table, escape(name), Text(name)):
        text = printed(item, 80)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert printed(escape("x\x1b]0;t\x07"), 80) == "x\\x1b]0;t\\x07\n"
