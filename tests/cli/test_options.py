"""The console to which commands print."""

import pytest

from raysearch.cli.options import FILE_WIDTH, make_console


@pytest.mark.parametrize(
    ("columns", "width"), [("0", FILE_WIDTH), ("\u00b2", FILE_WIDTH), ("90", 90)]
)
def test_a_console_without_a_terminal_has_a_width(
    columns: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    console = make_console()
    console.print("a text")
    assert console.width == width
    assert capsys.readouterr().out == "a text\n"
