"""The notebook of the documentation, executed by a kernel of Jupyter."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

import raysearch
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.stored_study import load_study
from support.empty_tracking_store import add_tracking_store
from support.notebooks import CONTROL, CountingClient, output_texts

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebooks" / "first-study.ipynb"
MAX_BYTES = 10_000
# An update a second while the launch takes minutes, as on a machine with other work.
MAX_UPDATES = 600


def read_notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def find_cell(notebook: nbformat.NotebookNode, text: str) -> int:
    """The number of the code cell with `text`."""
    (number,) = [
        number
        for number, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and text in cell.source
    ]
    return number


def test_the_notebook_is_valid_and_has_no_outputs() -> None:
    notebook = read_notebook()
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) >= 8
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert NOTEBOOK.stat().st_size <= MAX_BYTES
    assert notebook.cells[0].source.startswith("# ")  # the page of the documentation leaves it out


def test_the_notebook_uses_each_part_of_the_public_interface() -> None:
    text = NOTEBOOK.read_text()
    for part in ("Space(", "launch(", "load(", ".trials", ".champion", ".scores()", ".report("):
        assert part in text
    assert ".to_optuna()" in text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_notebook_runs_and_shows_what_it_says(
    tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    add_tracking_store(tmp_path)
    notebook = read_notebook()
    client = CountingClient(notebook, tmp_path)
    client.execute()
    for cell in notebook.cells:
        for text in output_texts(cell) if cell.cell_type == "code" else ():
            assert not CONTROL.search(text), text
            assert "Warning" not in text
    launch = find_cell(notebook, "raysearch.launch(")
    (table,) = notebook.cells[launch].outputs
    assert "3 finished" in table.data["text/plain"]
    assert client.messages[launch, "display_data"] == 1
    assert 1 <= client.messages[launch, "update_display_data"] <= MAX_UPDATES
    plots = [cell for cell in notebook.cells if "image/png" in str(cell.get("outputs", ""))]
    assert len(plots) == 3
    _check_the_study(tmp_path, notebook)


def _check_the_study(folder: Path, notebook: nbformat.NotebookNode) -> None:
    study = raysearch.load("notebook", folder / "studies")
    champion = study.champion
    assert champion is not None
    objective = champion.objective
    assert objective is not None
    assert (objective.value or 0) > 0.75  # it has learned something from 480 patches
    (shown,) = output_texts(notebook.cells[find_cell(notebook, "study.champion")])
    assert champion.trial in shown
    assert champion.model in shown
    assert len(study.scores()) == 480
    stored = load_study(StudyFolder(folder / "studies" / "notebook"))
    assert len(stored.history.done()) == 3
    assert (folder / "notebook.html").read_text().lower().startswith("<!doctype html>")
