"""Pages: texts are escaped, and control characters of names are visible."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysearch.cli import run
from raysearch.reports.html_page import render_page


def test_control_characters_and_markup_of_a_name_are_visible() -> None:
    name = "<b>a</b>\x1b[31m\u202eb\x07\r\udc80"
    html = render_page("published_results.html", title=name, notes=[], tables=[])
    assert "&lt;b&gt;a&lt;/b&gt;\\x1b[31m\\u202eb\\x07\\x0d?" in html
    assert not set(html) & set("\x1b\x07\r\u202e\udc80")


def test_a_page_shows_the_class_names_of_a_score_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"p\x1b{number},=a,0.75,0.25\np{number},b,0.25,0.75\n" for number in range(4))
    content = f"patient,label,score_=a,score_b\n{rows}"
    (tmp_path / "scores.csv").write_text(content)
    page = tmp_path / "page.html"
    assert run(["report", str(tmp_path / "scores.csv"), "--identifiers", "--out", str(page)]) == 0
    assert "\x1b" not in page.read_text()
    assert "p\\x1b0" in page.read_text()
    assert "\x1b[31m" not in capsys.readouterr().out


def test_an_error_shows_control_characters_of_a_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "a\x1b]0;title\x07\r\u202e.csv"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("raysearch: a\\x1b]0;title\\x07\\x0d\\u202e.csv: no such file")
    assert len(error.splitlines()) == 1
