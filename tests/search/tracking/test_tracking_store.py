"""The tracking store: a team's server with a login, and secrets that must not leak."""

import base64
import os
import signal
import socket
import stat
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import mlflow
import pytest

from conftest import Commands, await_answer
from raysearch.data.files import Folder
from raysearch.errors import DataError, StudyError
from raysearch.search.tracking.tracking_store import (
    DEFAULT_STORE,
    default_store,
    global_store,
    restrict_local_store,
    store_error,
)
from support.leaks import command_lines, leaks

PASSWORD, KEY = "planted-Passw0rd-of-mlflow", "planted-aws-key"
SPACE = """
epochs: 1
trials: 4
sampler: tpe
stopping: {rule: asha, paired_alpha: 0}
repeats: 0
space:
  folds: 2
  architecture: cnn
  convolutions: 1
  width: {choice: [4, 8]}
  learning_rate: {loguniform: [1.0e-3, 1.0e-2]}
"""


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """The port of `raysearch ui --server` in the folder `server`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = int(free.getsockname()[1])
    folder = tmp_path / "server"
    folder.mkdir()
    server = Commands(folder, {"MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD}).start(
        "ui", "--server", "--port", str(number), "--allowed-hosts", "tracking.example.org"
    )
    try:
        await_answer(f"http://127.0.0.1:{number}/health")
        yield number
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.communicate(timeout=120)


def http_status(port: int, host: str = "", password: str = "") -> int:
    """The status of a request for the experiments."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=1"
    )
    if host:
        request.add_header("Host", host)
    if password:
        login = base64.b64encode(f"admin:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {login}")
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as rejected:
        return rejected.code


def file_contents(folder: Path) -> dict[str, bytes]:
    """The contents of all files in `folder`, by path; without the database of passwords."""
    contents = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # Ray removes its folder at the end
            if path.is_file() and path.name != "basic_auth.db":
                contents[str(path)] = path.read_bytes()
    return contents


@pytest.mark.slow
def test_a_team_logs_in_and_no_secret_is_stored(port: int, tmp_path: Path, shards: Path) -> None:
    assert http_status(port) == 401
    assert http_status(port, password="wrong-password") == 401
    assert http_status(port, password=PASSWORD) == 200
    assert http_status(port, "tracking.example.org", PASSWORD) == 200
    assert http_status(port, "evil.example.org", PASSWORD) == 403
    databases = list((tmp_path / "server").glob("*.db"))
    assert len(databases) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in databases} == {0o600}

    folder = tmp_path / "laptop"
    folder.mkdir()
    (folder / "team.yaml").write_text(SPACE)
    with tempfile.TemporaryDirectory(prefix="rs-") as logs:  # its sockets require a short path
        run = Commands(
            folder,
            {
                "MLFLOW_TRACKING_URI": f"http://admin:{PASSWORD}@127.0.0.1:{port}",
                "AWS_SECRET_ACCESS_KEY": KEY,
                "RAY_TMPDIR": logs,
            },
        )
        launched = run.start("launch", "team.yaml", "--data", str(shards))
        texts: dict[str, bytes] = {}
        while launched.poll() is None:
            texts |= command_lines() | file_contents(Path(logs))
            with suppress(Exception):
                launched.wait(0.5)
        out, err = launched.communicate()
        assert launched.returncode == 0, err
        texts |= {"output": out.encode(), "error output": err.encode()}
        texts |= file_contents(folder) | file_contents(tmp_path / "server")
    assert [name for name in texts if "/studies/" in name]
    assert [name for name in texts if "raylet" in name]
    assert b"t0003" in texts[str(tmp_path / "server" / "mlflow.db")]
    assert leaks([PASSWORD, KEY], texts) == []


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # of MLflow's queries
def test_a_store_that_can_be_used_has_no_error(tmp_path: Path) -> None:
    assert store_error(f"sqlite:///{tmp_path}/mlflow.db") == ""


@pytest.mark.parametrize(
    ("address", "store"),
    [
        ("http://me:pass%20word@host:5000", "http://host:5000"),
        ("http://host:5000", "http://host:5000"),
        ("postgresql://me:word@db/mlflow", "postgresql://me:word@db/mlflow"),
    ],
)
def test_a_servers_login_is_taken_out_of_its_address(
    monkeypatch: pytest.MonkeyPatch, address: str, store: str
) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "unset")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert default_store() == store
    moved = address.startswith("http") and "@" in address
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == ("pass word" if moved else "unset")


@pytest.mark.slow
def test_a_secret_in_a_space_or_an_option_is_rejected(run: Commands) -> None:
    address = f"s3://me:{KEY}@bucket/shards"
    (run.folder / "secret.yaml").write_text(f"data: {address}\n{SPACE}")
    (run.folder / "plain.yaml").write_text(SPACE)
    for arguments in (
        ("secret.yaml",),
        ("plain.yaml", "--data", address),
        ("plain.yaml", "--studies", address),
        ("secret.yaml", "--on", "plain.yaml"),
        ("plain.yaml", "--on", "plain.yaml", "--data", address),
    ):
        finished = run("launch", *arguments, code=2)
        assert KEY not in finished.stdout + finished.stderr
        assert "contains a password" in finished.stderr
    assert not (run.folder / "studies").exists()


def test_a_folder_address_with_a_password_is_rejected() -> None:
    with pytest.raises(DataError, match="contains a password") as rejected:
        Folder(f"s3://me:{KEY}@bucket/shards")
    assert KEY not in str(rejected.value)


def test_no_error_message_contains_a_password() -> None:
    error = StudyError(f"the store postgresql://me:{PASSWORD}@db/mlflow is away; try http://a:1@b")
    assert str(error) == "the store postgresql://***@db/mlflow is away; try http://***@b"


def test_a_local_store_and_its_artifacts_are_closed_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlruns").mkdir(mode=0o755)
    for name in ("mlflow.db", "mlflow.db-wal"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o644)
    restrict_local_store(DEFAULT_STORE)
    restrict_local_store(f"sqlite:///{tmp_path}/new.db")
    restrict_local_store("http://127.0.0.1:5000")
    restrict_local_store("sqlite:///missing/mlflow.db")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"mlflow.db": 0o600, "mlflow.db-wal": 0o600, "new.db": 0o600, "mlruns": 0o700}


def test_a_store_is_mlflows_global_one_only_inside_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/before.db")
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    store = f"sqlite:///{tmp_path}/inside.db"
    with global_store(store):
        assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri()) == (store, store)
    assert mlflow.get_tracking_uri() == f"sqlite:///{tmp_path}/before.db"
    assert "MLFLOW_REGISTRY_URI" not in os.environ
