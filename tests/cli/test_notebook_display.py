"""The live table in a kernel of Jupyter: one output that is updated in place."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from rich.text import Text

from raysearch.cli.notebook_display import MAX_INTERVAL_S, formats, update_interval
from raysearch.cli.safe_console import KERNEL_VARIABLE, SafeConsole
from raysearch.search.study.study import Study
from support.notebooks import CONTROL, CountingClient
from support.result_studies import new_study, next_searched, train_next

# Follows a stored study for two seconds, as a launch does.
CELL = """
import time
from raysearch.cli.live_table import LiveView
from raysearch.cli.safe_console import SafeConsole
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.remote_view import RemoteStudyView
from raysearch.search.study.stored_study import load_study

stored = load_study(StudyFolder("studies/first"))
study = RemoteStudyView(stored.plan)
with LiveView(SafeConsole(force_jupyter=False), is_notebook=True) as view:
    view.on_status("following first")
    view.on_study(study)
    for event in stored.events:
        study.apply(event)
        time.sleep(2 / len(stored.events))
"""


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    """A study with trials that have ended, and one warning."""
    study = new_study(shards, tmp_path / "studies" / "first")
    train_next(study, 3)
    study.warn(next_searched(study).id, "the disk is \x1b[31mfull")
    return study


@pytest.mark.filterwarnings("ignore")
def test_the_table_is_one_output_of_the_cell(study: Study, tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    client = CountingClient(notebook, tmp_path)
    client.execute()
    [output] = notebook.cells[0].outputs
    assert output.output_type == "display_data"
    text, html = output.data["text/plain"], output.data["text/html"]
    first_words = {line.split()[0] for line in text.splitlines()}
    assert first_words >= {"trial", *(trial.id for trial in study.history.searched())}
    assert "first  1 running" in text
    assert "the disk is \\x1b[31mfull" in text
    assert "following" not in text  # the launch is over
    assert not CONTROL.search(text + html)
    assert html.startswith("<pre ")
    assert 1 <= client.messages[0, "update_display_data"] <= 6
    assert client.messages[0, "display_data"] == 1


def test_the_updates_of_a_long_study_are_few() -> None:
    elapsed_s, num_updates = 0.0, 0
    while elapsed_s < 24 * 3600:
        elapsed_s += update_interval(elapsed_s)
        num_updates += 1
    assert update_interval(0) == 1
    assert update_interval(24 * 3600) == MAX_INTERVAL_S
    assert num_updates < 10_000


def test_markup_of_html_in_a_name_is_text() -> None:
    content = formats(Text("<b>&\x1b"))
    assert content["text/plain"] == "<b>&\\x1b"
    assert "&lt;b&gt;&amp;\\x1b" in content["text/html"]


def test_a_command_in_a_cell_prints_as_into_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel sets FORCE_COLOR, by which rich takes a pipe for a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert SafeConsole().is_terminal
    monkeypatch.setenv(KERNEL_VARIABLE, str(os.getpid()))
    assert not SafeConsole().is_terminal
    assert SafeConsole(force_terminal=True).is_terminal
