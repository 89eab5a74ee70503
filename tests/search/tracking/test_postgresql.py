"""PostgreSQL as the tracking store: of a launch, and of a team's server."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from mlflow.tracking import MlflowClient

from conftest import Commands
from raysearch.errors import StudyError
from raysearch.search.tracking.tracking_store import check_driver, store_error
from support.leaks import command_lines, leaks
from support.ui_server import PASSWORD, running_ui

DATABASE_PASSWORD = "planted/S3cret@word"
SPACE = """
epochs: 1
trials: 2
sampler: tpe
stopping: {rule: asha, paired_alpha: 0}
repeats: 0
space:
  folds: 2
  architecture: cnn
  convolutions: 1
  width: {choice: [4, 8]}
"""


def server_program(name: str) -> str:
    """The path of a program of PostgreSQL's server; the test is skipped without it."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    places = os.pathsep.join([os.environ["PATH"], *map(str, folders)])
    program = shutil.which(name, path=places)
    if program is None:
        pytest.skip(f"PostgreSQL's {name} is not installed (Debian: postgresql)")
    return program


@pytest.fixture
def database() -> Iterator[str]:
    """The address of an empty database on a PostgreSQL server of the test."""
    initdb, postgres = server_program("initdb"), server_program("postgres")
    # The server does not run as root, and its sockets require a short path.
    user = "postgres" if os.geteuid() == 0 else getpass.getuser()
    with tempfile.TemporaryDirectory(prefix="rs-", dir="/tmp") as name, socket.socket() as free:
        folder = Path(name)
        (folder / "password").write_text(DATABASE_PASSWORD)
        for path in (folder, folder / "password"):
            shutil.chown(path, user)
        options = ["--auth=scram-sha-256", "--username=me", f"--pwfile={folder / 'password'}"]
        data = f"--pgdata={folder / 'data'}"
        subprocess.run(
            [initdb, data, *options], user=user, cwd=folder, check=True, capture_output=True
        )
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        words = [postgres, "-D", str(folder / "data"), "-p", str(port), "-k", str(folder)]
        server = subprocess.Popen(
            [*words, "-c", "listen_addresses=127.0.0.1"],
            user=user,
            cwd=folder,
            stderr=subprocess.DEVNULL,
        )
        address = f"postgresql://me:{quote(DATABASE_PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
        try:
            await_database(address)
            yield address
        finally:
            server.send_signal(signal.SIGINT)  # SIGTERM would wait for the clients
            server.wait(60)


def await_database(address: str) -> None:
    """Wait until the server accepts connections."""
    import psycopg

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            psycopg.connect(address).close()
        except psycopg.OperationalError:
            time.sleep(0.5)
        else:
            return
    pytest.fail("PostgreSQL does not accept connections")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_a_launch_and_a_teams_server_use_postgresql(
    database: str, tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store_error(database) == ""
    wrong = database.replace("S3cret", "S3cret-wrong")
    reason = store_error(wrong)
    assert "password authentication failed" in reason
    assert "S3cret" not in reason

    laptop = tmp_path / "laptop"
    laptop.mkdir()
    (laptop / "team.yaml").write_text(SPACE)
    run = Commands(laptop, {"MLFLOW_TRACKING_URI": database})
    finished = run("launch", "team.yaml", "--data", str(shards))
    texts = [finished.stdout, finished.stderr]
    texts += [path.read_text(errors="replace") for path in laptop.rglob("*") if path.is_file()]
    texts.append(
        Commands(laptop, {"MLFLOW_TRACKING_URI": wrong})(
            "launch", "team.yaml", "--data", str(shards), "--name", "other", code=2
        ).stderr
    )
    assert not [text for text in texts if "S3cret" in text]

    environment = {"MLFLOW_BACKEND_STORE_URI": database, "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD}
    with running_ui(tmp_path / "server", "--server", **environment) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
        client = MlflowClient(tracking_uri=server.address)
        experiment = client.get_experiment_by_name("team")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
        assert len([run for run in runs if run.data.tags["kind"] == "trial"]) == 2
        assert str(client.get_model_version_by_alias("team", "champion").version) == "1"
        assert leaks(["S3cret"], command_lines()) == []
    assert "S3cret" not in "".join(server.output)


def test_a_missing_driver_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    address = f"postgresql://me:{quote(DATABASE_PASSWORD, safe='')}@db/mlflow"
    with pytest.raises(StudyError, match=r"install raysearch\[postgres\]") as missing:
        check_driver(address)
    assert str(missing.value).startswith("postgresql://***@db/mlflow: the driver of this database")
    assert "raysearch[postgres]" in store_error(address)


@pytest.mark.parametrize(
    "address", ["postgresql://me:planted@host:port/x", "postgresql+none://h/x"]
)
def test_an_address_of_no_database_is_rejected(address: str) -> None:
    with pytest.raises(
        StudyError, match=r"no address of a database .*; write postgresql://, user"
    ) as wrong:
        check_driver(address)
    assert "planted" not in str(wrong.value)
