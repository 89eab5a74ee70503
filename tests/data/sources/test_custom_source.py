"""A function of the user's lists a source of any layout."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysearch.data.shards.rows import load_rows
from raysearch.data.sources import list_source
from raysearch.data.sources.listing import SourceOptions
from raysearch.errors import DataError
from support.source_images import shard_source, write_csv_source

MODULE = """
from pathlib import Path


def by_name(folder):
    for path in sorted(Path(folder).glob("*.png")):
        number = int(path.stem)
        yield {"path": path.name, "label": "even" if number % 2 == 0 else "odd",
               "patient": f"p{number // 2}", "x": 50 * number + 1, "y": 1}


def empty(folder):
    return []


def texts(folder):
    return ["a.png"]


def other_columns(folder):
    return [{"file": "0.png"}]


def failing(folder):
    raise RuntimeError("no index")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with images, beside a module in the working folder."""
    (tmp_path / "own_sources.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    source = write_csv_source(tmp_path / "images", "path,label,patient\n0.png,a,p\n")
    yield Path(source).parent
    sys.modules.pop("own_sources", None)


def test_a_source_of_the_users_is_sharded(folder: Path, tmp_path: Path) -> None:
    manifest = shard_source(folder, tmp_path, source_format="own_sources:by_name")
    rows = load_rows(str(tmp_path / "out"))
    assert manifest.format == "own_sources:by_name"
    assert manifest.class_names == ("even", "odd")
    assert set(rows.labels.tolist()) <= {0, 1}
    assert len(rows.labels) == len(list(folder.glob("*.png")))
    assert rows.xs.tolist()[0] == 1.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "it must yield a mapping with path, label and patient"),
        ("texts", "it must yield a mapping with path, label and patient"),
        ("other_columns", "no column 'path'"),
        ("failing", "raises RuntimeError: no index"),
        ("nosuch", "has no function 'nosuch'"),
    ],
)
def test_what_a_function_does_wrong_is_named(folder: Path, name: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        list_source(str(folder), f"own_sources:{name}", SourceOptions())
    assert message in str(error.value)
    assert f"--format own_sources:{name}" in str(error.value)


def test_options_that_it_does_not_read_are_rejected(folder: Path) -> None:
    options = SourceOptions(patient="(.*)")
    with pytest.raises(DataError, match="--patient: has no effect with format own_sources"):
        list_source(str(folder), "own_sources:by_name", options)
    with pytest.raises(DataError, match=r"'own' is unknown; one of .*, or MODULE:FUNCTION"):
        list_source(str(folder), "own", SourceOptions())
