"""The page of a table of scores, and the tables that cannot be evaluated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from raysearch.cli import run
from raysearch.errors import DataError
from raysearch.reports.evaluation_page import read_score_table


def score_table(change: Callable[[list[str]], None] = lambda _rows: None) -> str:
    """Return a table of 40 patches of 8 patients as CSV, after a `change` of its lines."""
    rng = np.random.default_rng(0)
    lines = ["path,patient,x,y,label,score_no,score_yes"]
    for number in range(40):
        score = round(float(rng.random()), 3)
        label = "yes" if score + rng.normal(0, 0.3) > 0.5 else "no"
        lines.append(f"{number}.png,p{number % 8},,,{label},{1 - score:.3f},{score}")
    change(lines)
    return "\n".join(lines)


def test_a_score_table_is_evaluated_by_its_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scores.csv").write_text(score_table())
    page = tmp_path / "page.html"
    assert run(["report", str(tmp_path / "scores.csv"), "--out", str(page)]) == 0
    assert "Report" in capsys.readouterr().out
    text = page.read_text()
    assert "Scores: 40 patches of 8 patients" in text
    assert "Confusion matrix" in text


def replace_line(number: int, text: str) -> Callable[[list[str]], None]:
    return lambda lines: lines.__setitem__(number, text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replace_line(3, "3.png,p1,,,no,nan,0.5"), "line 4: a score is not a finite number"),
        (replace_line(3, "3.png,p1,,,no,0.7,0.5"), r"line 4: the scores do not sum to 1 \(0 more"),
        (replace_line(3, "3.png,p1,,,maybe,0.5,0.5"), "the label is not one of no, yes"),
        (replace_line(3, "3.png,,,,no,0.5,0.5"), "the patient is missing"),
        (replace_line(0, "path,patient,x,y,truth,score_no,score_yes"), "missing columns: label"),
        (replace_line(3, "3.png,p1,,,no,high,0.5"), "a score is not a number"),
    ],
)
def test_a_score_table_that_cannot_be_evaluated_is_rejected(
    change: Callable[[list[str]], None], message: str, tmp_path: Path
) -> None:
    (tmp_path / "scores.csv").write_text(score_table(change))
    with pytest.raises(DataError, match=message):
        read_score_table(tmp_path / "scores.csv")
