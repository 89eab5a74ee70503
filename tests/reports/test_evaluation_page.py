"""The page of a table of scores, and the tables that cannot be evaluated."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raysearch.cli import run
from raysearch.data.csv_files import neutralize_cell
from raysearch.data.pseudonyms import DisplayedNames
from raysearch.errors import DataError
from raysearch.metrics.evaluation import ScoredRows
from raysearch.metrics.row_units import SLIDES
from raysearch.reports.evaluation_page import (
    evaluation_page,
    evaluation_section,
    missing_value_notes,
    read_score_table,
)
from raysearch.reports.study_report import evaluate_set


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


def table_of(patients: list[str], labels: tuple[str, str], columns: tuple[str, str]) -> str:
    """Return a score table with six rows of each patient, whose labels alternate."""
    lines = [f"patient,label,score_{columns[0]},score_{columns[1]}"]
    for patient in patients:
        lines += [f"{patient},{labels[number % 2]},0.25,0.75" for number in range(6)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "patients",
    [
        ["007", "7", "7.0", "1e1", "10", "+10"],
        ["12345678901234567890", "12345678901234567891", "12345678901234567892"],
        ["2020-01-02", "2020-01-02 00:00:00", "02/01/2020"],
        ["True", "true", "1", "TRUE"],
        ["0", "00", "-0", "False", "nan", "NA", "null"],
        ["'=1", "=1", "-1", "@1"],
    ],
)
def test_patients_are_texts(patients: list[str], tmp_path: Path) -> None:
    cells = [neutralize_cell(name) for name in patients]
    (tmp_path / "scores.csv").write_text(table_of(cells, ("no", "yes"), ("no", "yes")))
    scored = read_score_table(tmp_path / "scores.csv")
    assert scored.patients.tolist() == [name for name in patients for _row in range(6)]


@pytest.mark.parametrize(
    "classes", [("00", "01"), ("true", "false"), ("1", "1.0"), ("null", "nan"), ("1e1", "10")]
)
def test_labels_are_texts(classes: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(table_of(["p"], classes, classes))
    scored = read_score_table(tmp_path / "scores.csv")
    assert scored.class_names == classes
    assert scored.labels.tolist() == [0, 1, 0, 1, 0, 1]


def test_blanks_at_the_ends_of_a_patient_and_a_label_are_no_part_of_them(tmp_path: Path) -> None:
    text = table_of(["P1", "P1 ", " P1"], ("no", "yes "), ("no ", "yes"))
    (tmp_path / "scores.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    scored = read_score_table(tmp_path / "scores.csv")
    assert scored.class_names == ("no", "yes")
    assert set(scored.patients.tolist()) == {"P1"}
    (tmp_path / "blank.csv").write_text(table_of(["P1", " "], ("no", "yes"), ("no", "yes")))
    with pytest.raises(DataError, match=r"line 8: the patient is missing, .* \(5 more"):
        read_score_table(tmp_path / "blank.csv")


def test_the_report_names_patients_that_may_be_missing_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = table_of(["P1", "P2", "nan"], ("no", "yes"), ("no", "yes"))
    (tmp_path / "M1.CSV").write_text(text)
    assert run(["report", str(tmp_path / "M1.CSV"), "--out", str(tmp_path / "page.html")]) == 0
    assert "6 patches have the patient 'nan', which counts as one" in capsys.readouterr().out
    assert "18 patches of 3 patients" in (tmp_path / "page.html").read_text()


def test_the_page_of_many_classes_has_one_row_for_each_class() -> None:
    rng = np.random.default_rng(0)
    names = tuple(f"class {number}" for number in range(30))
    labels = np.arange(90) % 30
    probabilities = rng.dirichlet(np.full(30, 0.3), 90)
    patients = np.array([f"p{number % 9}" for number in range(90)])
    scored = ScoredRows(labels, probabilities, patients, names)
    evaluated = evaluate_set("many", "text", scored)
    section = evaluation_section(evaluated, DisplayedNames(None))
    titles = [chart.title for chart in section.charts]
    assert "ROC curve of the 12 largest classes" in titles
    assert "Confusion matrix" not in titles
    assert max(len(table.columns) for table in section.tables) <= 7
    tables = {table.title.split(":")[0]: table for table in section.tables}
    by_class = tables["Selective prediction by class"]
    assert [row[0] for row in by_class.rows] == list(names)
    confusions = tables["Most frequent confusions of the confusion matrix"]
    true, _as, predicted = confusions.rows[0][0].partition(" as ")
    predicted_labels = probabilities.argmax(axis=1)
    number = ((labels == names.index(true)) & (predicted_labels == names.index(predicted))).sum()
    assert confusions.rows[0][1:] == [str(number), f"{number / 3:.3f}"]


def test_the_page_of_a_table_shows_pseudonyms_unless_identifiers_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scores.csv").write_text(score_table())
    monkeypatch.chdir(tmp_path)
    patients = set(read_score_table(tmp_path / "scores.csv").patients.tolist())
    cells = {f'data-label="patient">{patient}</td>' for patient in patients}
    path = str(tmp_path / "scores.csv")
    assert run(["report", path, "--out", "shared.html"]) == 0
    assert run(["report", path, "--out", "own.html", "--identifiers"]) == 0
    shared, own = ((tmp_path / name).read_text() for name in ("shared.html", "own.html"))
    assert not [cell for cell in cells if cell in shared]
    assert len(re.findall('data-label="patient">P-[0-9A-F]{10}</td>', shared)) == len(patients)
    assert [cell for cell in cells if cell in own]
    assert str(tmp_path) not in shared + own


@pytest.mark.parametrize("num_classes", [2, 25])
def test_the_page_of_slides_is_that_of_patches_in_other_words(num_classes: int) -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(num_classes, 0.5), 100)
    labels = np.arange(100) % num_classes
    patients = np.array(["nan", *(f"p{number % 9}" for number in range(99))])
    names = tuple(f"class {number}" for number in range(num_classes))
    patches = ScoredRows(labels, probabilities, patients, names)

    def page_of(scored: ScoredRows) -> str:
        evaluated = evaluate_set("a set", "text", scored, notes=missing_value_notes(scored))
        page = evaluation_page("a title", [evaluated], DisplayedNames(None))
        return re.sub(r"data:[^\"]*", "", page).replace("\n", " ")

    page, page_of_patches = page_of(replace(patches, unit=SLIDES)), page_of(patches)
    assert "patch" not in page
    assert page_of_patches.count("patch") > 5
    in_words_of_slides = page_of_patches.replace("patches", "slides").replace("patch", "slide")
    # A chart's lines have other places beside a shorter text.
    assert re.sub("<svg.*?</svg>", "", page) == re.sub("<svg.*?</svg>", "", in_words_of_slides)
