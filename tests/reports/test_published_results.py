"""Published results, checked against themselves: those of three projects, and consistent ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from raysearch.cli import run
from raysearch.errors import DataError
from raysearch.reports.published_results import check_published, read_published

MANY_SETS = "other_sets: {s" + ": 1, s".join(map(str, range(600))) + ": 1}"
PUBLISHED = Path(__file__).with_name("published")


def note_texts(name: str) -> list[str]:
    return [note.text for note in check_published(read_published(PUBLISHED / name))]


def test_a_fraction_that_contradicts_its_counts_is_noted() -> None:
    assert note_texts("secm.yaml") == ["recall of other: 85/86 is 0.988, but 0.998 is reported"]


def test_a_row_that_repeats_another_one_is_noted() -> None:
    assert note_texts("idc-cnn.yaml") == [
        "the row at confidence 0.99 repeats that at 0.8: accuracy 0.9438, precision 0.9339,"
        " recall 0.9536"
    ]


def test_a_support_that_exceeds_its_set_is_noted_and_explained() -> None:
    assert note_texts("idc-vgg19.yaml") == [
        "the support, 298,652, exceeds the 21,128 rows of the evaluated set: it is train +"
        " 2 x the evaluated set"
    ]


@pytest.mark.parametrize("name", ["secm", "idc-cnn", "idc-vgg19"])
def test_the_page_has_the_notes_and_errors_set_the_exit_code(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert run(["report", str(PUBLISHED / f"{name}.yaml"), "--out", str(page)]) == 1
    output = capsys.readouterr().out
    (note,) = note_texts(f"{name}.yaml")
    assert note in " ".join(output.split())
    html = page.read_text()
    assert f'class="card note error">{note}' in html
    assert "<td" in html


def test_consistent_results_have_no_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, page = tmp_path / "paper.yaml", tmp_path / "paper.html"
    file.write_text("classes: {a: {}, b: {}}\nconfusion: [[90, 10], [20, 80]]\nrows: 200\n")
    assert run(["report", str(file), "--out", str(page)]) == 0
    assert "Note" not in capsys.readouterr().out
    assert "The reported values are consistent." in page.read_text()
    assert "Metrics of the confusion matrix" in page.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: many", "line 1: rows: 'many' is not a count"),
        ("rows: true", "rows: 'true' is not a count"),
        ("row: 5", "row: unknown key; did you mean `rows`?"),
        ("metrics: {accuracy: 85}", "metrics.accuracy: '85' is not from 0 to 1"),
        ("metrics: {accuracy: true}", "metrics.accuracy: 'true' is not from 0 to 1"),
        ("classes: {a: {f1: '0.5'}, b: {}}\nconfusion: [[1, 2]]", "line 2: confusion: give one"),
        ("classes: {a: {f1: 2}}", "classes.a.f1: '2' is not from 0 to 1"),
        ("classes: {a: {support: -1}}", "classes.a.support: '-1' is not a count"),
        ("classes: 3", "classes: '3' is not a mapping"),
        ("fractions: [{name: x}]", "fractions.0.reported: this key is required"),
        ("fractions: [{name: x, reported: 0.5, count: 1, of: 2}]", "fractions.0.of: unknown key"),
        ("fractions: 3", "fractions: '3' is not a list"),
        ("by_confidence: {very: {}}", "by_confidence.very: 'very' is not a confidence"),
        ("metrics: {f1: 1e-05}", "metrics.f1: '1e-05' is not from 0 to 1"),
        ("rows: 1%s" % ("0" * 400), "is not a count"),
        ("by_confidence: {0.8: {}, 0.80: {}}", "by_confidence: a confidence is written twice"),
        ("fractions: [{name: x, reported: .5, count: 9999999999999, total: 1}]", "not a count"),
        (MANY_SETS, "at most 500 items"),
        ('classes: {"a\\e[31m\\n": 3}', "classes.a\x1b[31m : '3' is not a mapping"),
        ("- a", "the file has no results"),
    ],
)
def test_results_that_cannot_be_read_are_rejected(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(DataError, match=re.escape(message)):
        read_published(tmp_path / "x.yaml")


def test_all_errors_of_a_file_are_reported_one_on_each_line(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("rows: many\nmetrics: {f1: 7}\nconfusion: [[1]]\n")
    with pytest.raises(DataError) as error:
        read_published(tmp_path / "x.yaml")
    first, *errors = str(error.value).splitlines()
    assert first.endswith("x.yaml: 3 errors")
    assert [line.split(":")[1].strip() for line in errors] == ["rows", "confusion", "metrics.f1"]


@pytest.mark.parametrize(
    "names", [("00", "01"), ("true", "false"), ("1e1", "10"), ("yes", "no"), ("007", "7")]
)
def test_classes_are_texts(names: tuple[str, str], tmp_path: Path) -> None:
    classes = ", ".join(f"{name}: {{f1: 0.90, support: 100}}" for name in names)
    (tmp_path / "x.yaml").write_text(
        f"name: 007\nrows: 200\nclasses: {{{classes}}}\nother_sets: {{2020-01-02: 5, 1: 3}}\n"
    )
    results = read_published(tmp_path / "x.yaml")
    assert (results.name, tuple(results.classes)) == ("007", names)
    assert results.classes[names[0]].metrics["f1"].text == "0.90"
    assert results.other_sets == {"2020-01-02": 5, "1": 3}
    assert check_published(results) == []


def test_many_sets_are_not_combined(tmp_path: Path) -> None:
    sets = ", ".join(f"s{number}: {1000 + number}" for number in range(200))
    (tmp_path / "x.yaml").write_text(
        f"rows: 10\nclasses: {{a: {{support: 7}}}}\nother_sets: {{{sets}}}\n"
    )
    (note,) = check_published(read_published(tmp_path / "x.yaml"))
    assert note.text == "the support, 7, is less than the 10 rows of the evaluated set"


def test_a_file_with_many_errors_names_the_first_of_them(tmp_path: Path) -> None:
    classes = ", ".join(f"c{number}: {{f1: x}}" for number in range(300))
    (tmp_path / "x.yaml").write_text(f"classes: {{{classes}}}\n")
    with pytest.raises(DataError) as error:
        read_published(tmp_path / "x.yaml")
    assert len(str(error.value).splitlines()) == 22
