"""Published figures, checked against themselves: those of three projects, and those that hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from raysearch.cli import run
from raysearch.errors import DataError
from raysearch.reports.published_results import notes_of, read_published, scores_in

PUBLISHED = Path(__file__).with_name("published")


def texts(name: str) -> list[str]:
    return [note.text for note in notes_of(read_published(PUBLISHED / name))]


def test_a_share_that_its_counts_do_not_give_is_noted() -> None:
    assert texts("secm.yaml") == ["recall of other: 85/86 is 0.988, but 0.998 is reported"]


def test_a_row_that_repeats_another_is_noted() -> None:
    assert texts("idc-cnn.yaml") == [
        "the row at confidence 0.99 repeats that at 0.8: accuracy 0.9438, precision 0.9339, recall 0.9536"
    ]


def test_a_support_that_exceeds_its_set_is_noted_and_explained() -> None:
    assert texts("idc-vgg19.yaml") == [
        "the support, 298,652, exceeds the 21,128 rows of the set that was judged: it is train +"
        " 2 x the set that was judged"
    ]


@pytest.mark.parametrize("name", ["secm", "idc-cnn", "idc-vgg19"])
def test_a_page_of_them_is_written_and_the_exit_code_says_that_something_is_wrong(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert run(["report", str(PUBLISHED / f"{name}.yaml"), "--out", str(page)]) == 1
    said = capsys.readouterr().out
    (note,) = texts(f"{name}.yaml")
    assert note in " ".join(said.split())
    assert note in page.read_text()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("rows: many", "rows: 'many' is no count"),
        ("row: 5", "row: no such key; they are name, rows"),
        ("claims: {accuracy: 85}", "claims.accuracy: '85' is no share"),
        ("classes: {a: {f1: '0.5'}, b: {}}\nconfusion: [[1, 2]]", "confusion: give a row"),
        ("shares: [{name: x}]", "shares.0: give name, claimed, count and of"),
        ("confident: {very: {}}", "confident.very: no confidence"),
        ("- a", "holds no figures"),
    ],
)
def test_figures_that_cannot_be_read_are_told(text: str, error: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(DataError, match=error.replace("(", r"\(").replace("[", r"\[")):
        read_published(tmp_path / "x.yaml")


def table(change: Callable[[list[str]], None] = lambda _rows: None) -> str:
    draw = np.random.default_rng(0)
    rows = ["path,patient,x,y,label,score_no,score_yes"]
    for number in range(40):
        score = round(float(draw.random()), 3)
        label = "yes" if score + draw.normal(0, 0.3) > 0.5 else "no"
        rows.append(f"{number}.png,p{number % 8},,,{label},{1 - score:.3f},{score}")
    change(rows)
    return "\n".join(rows)


def test_a_score_table_is_judged_by_its_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scores.csv").write_text(table())
    page = tmp_path / "page.html"
    assert run(["report", str(tmp_path / "scores.csv"), "--out", str(page)]) == 0
    assert "Report" in capsys.readouterr().out
    text = page.read_text()
    assert "Scores: 40 patches of 8 patients" in text
    assert "Confusion matrix" in text


def replaced(row: int, text: str) -> Callable[[list[str]], None]:
    return lambda rows: rows.__setitem__(row, text)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (replaced(3, "3.png,p1,,,no,nan,0.5"), "line 4, and 0 more, with a score that is no"),
        (replaced(3, "3.png,p1,,,no,0.7,0.5"), "line 4, and 0 more, with scores that do not add"),
        (replaced(3, "3.png,p1,,,maybe,0.5,0.5"), "a label that is none of no, yes"),
        (replaced(3, "3.png,,,,no,0.5,0.5"), "with no patient"),
        (replaced(0, "path,patient,x,y,truth,score_no,score_yes"), "has no label"),
        (replaced(3, "3.png,p1,,,no,high,0.5"), "a score is no number"),
    ],
)
def test_scores_that_cannot_be_judged_are_told(
    change: Callable[[list[str]], None], error: str, tmp_path: Path
) -> None:
    (tmp_path / "scores.csv").write_text(table(change))
    with pytest.raises(DataError, match=error):
        scores_in(tmp_path / "scores.csv")
