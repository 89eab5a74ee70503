"""A tracking store that another version of MLflow, or another program, has written."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from mlflow.store.db.utils import _get_alembic_config
from mlflow.tracking import MlflowClient

from raysearch.cli import run as run_command
from raysearch.errors import StudyError
from raysearch.search.tracking import database_schema
from raysearch.search.tracking.tracking_store import check_store, store_error
from support.launched_studies import write_space

pytestmark = pytest.mark.filterwarnings("ignore")
SQLITE = "sqlite:///mlflow.db"


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a study, set back by MLflow's own migration to the schema before."""
    path = tmp_path_factory.mktemp("older") / "mlflow.db"
    store = f"sqlite:///{path}"
    MlflowClient(store).create_experiment("kept")
    command.downgrade(_get_alembic_config(store), "-1")
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a space, in which the commands of a test run."""
    monkeypatch.chdir(tmp_path)
    write_space(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_schema, "SETTLE_S", 0.5)


def revision(database: Path, new: str = "") -> str:
    """The revision of a database; first set to `new`, if given."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        if new:
            connection.execute("UPDATE alembic_version SET version_num = ?", (new,))
            connection.commit()
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def rejection(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command prints that ends with exit code 2 and one line of error."""
    assert run_command(list(words)) == 2
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if line.startswith("raysearch:")]
    assert "Traceback" not in error
    return line


def test_an_older_schema_is_rejected_at_the_start_with_the_command_that_upgrades(
    folder: Path, older: Path, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(older, "mlflow.db")
    before = revision(Path("mlflow.db"))
    upgrade = f"mlflow db upgrade {SQLITE}"
    line = rejection(capsys, "launch", "small.yaml", "--data", str(shards))
    assert f"`{upgrade}`" in line
    assert before in line
    assert not (folder / "studies" / "small" / "plan.json").exists()  # nothing has started
    assert f"`{upgrade}`" in rejection(capsys, "ui")
    assert upgrade in store_error(SQLITE)
    assert revision(Path("mlflow.db")) == before
    mlflow = Path(sys.executable).with_name("mlflow")
    subprocess.run([mlflow, *upgrade.split()[1:]], check=True, capture_output=True)
    check_store(SQLITE)
    assert MlflowClient(SQLITE).get_experiment_by_name("kept") is not None


def test_a_newer_schema_is_rejected_with_what_to_install(
    folder: Path, older: Path, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(older, "mlflow.db")
    revision(folder / "mlflow.db", "ffffffffffff")
    line = rejection(capsys, "launch", "small.yaml", "--data", str(shards))
    assert "newer MLflow" in line
    assert "install that version" in line
    assert "ffffffffffff" in line


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"no database at all\n" * 300, "file is not a database"), (None, "another program")],
)
def test_a_file_that_is_no_database_of_mlflow_is_rejected_and_not_changed(
    folder: Path,
    shards: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
    reason: str,
) -> None:
    if content is None:
        with contextlib.closing(sqlite3.connect("mlflow.db")) as connection:
            connection.execute("CREATE TABLE patients (name TEXT)")
            connection.commit()
    else:
        Path("mlflow.db").write_bytes(content)
    before = Path("mlflow.db").read_bytes()
    line = rejection(capsys, "launch", "small.yaml", "--data", str(shards))
    assert reason in line
    assert "MLFLOW_TRACKING_URI" in line
    assert Path("mlflow.db").read_bytes() == before
    assert not (folder / "mlruns").exists()


def test_a_locked_database_is_rejected_in_one_line(
    older: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_schema, "LOCK_TIMEOUT_S", 0.1)
    path = tmp_path / "mlflow.db"
    shutil.copy(older, path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StudyError, match="database is locked") as error:
            check_store(f"sqlite:///{path}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, b""])
def test_a_database_that_does_not_exist_yet_is_accepted_and_not_created(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "mlflow.db"
    if content is not None:
        path.write_bytes(content)
    check_store(f"sqlite:///{path}")
    assert (path.read_bytes() if path.exists() else None) == content


class MigratingClock:
    """A clock that only `sleep` advances; the database gets one of `revisions` at each call."""

    def __init__(self, database: Path, revisions: list[str]) -> None:
        self._database, self._revisions = database, iter(revisions)
        self._now_s = 0.0

    def monotonic(self) -> float:
        return self._now_s

    def sleep(self, seconds: float) -> None:
        self._now_s += seconds
        revision(self._database, next(self._revisions, ""))


def test_a_schema_that_another_launch_is_creating_is_awaited(
    older: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(older, path)
    _revisions, newest = database_schema._revisions()
    # One of an earlier migration, and the newest: each within SETTLE_S, both together not.
    clock = MigratingClock(path, ["", "451aebb31d03", "", newest])
    monkeypatch.setattr(database_schema, "time", clock)
    check_store(f"sqlite:///{path}")
    assert revision(path) == newest
    revision(path, "451aebb31d03")
    with pytest.raises(StudyError, match="older MLflow"):
        check_store(f"sqlite:///{path}")
