"""`raysearch ui` against other accounts of the machine and pages of other origins."""

import base64
import json
import os
import socket
import stat
import time
import webbrowser
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from conftest import Commands
from raysearch.cli.ui import _check_port, close_to_others, ui
from raysearch.errors import StudyError
from raysearch.search.tracking import study_view, tracking_store
from support.ui_server import PASSWORD, UiServer, running_ui

pytestmark = pytest.mark.filterwarnings("ignore")
API = "/api/2.0/mlflow"
EXPERIMENTS = f"{API}/experiments/search?max_results=1"
SECRET = "the content of a private file"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UiServer]:
    """A server of one user, with the registered model `m@champion`."""
    with running_ui(tmp_path_factory.mktemp("ui") / "work") as server:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(server.folder)  # the store takes its folder of artifacts from here
            client = MlflowClient(tracking_uri=f"sqlite:///{server.folder}/mlflow.db")
            client.create_registered_model("m")
            run = client.create_run(client.create_experiment("study"))
            client.log_text(run.info.run_id, "an artifact", "own.txt")
            version = client.create_model_version("m", run.info.artifact_uri, run.info.run_id)
        client.set_registered_model_alias("m", "champion", version.version)
        yield server


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", ["/", "/version", EXPERIMENTS, "/ajax-api/3.0/mlflow/server-info", "/static-files/x"]
)
def test_nothing_is_answered_without_the_token(server: UiServer, path: str) -> None:
    assert server.status(path) == 401
    assert server.status(path, Authorization="Bearer wrong") == 401
    assert server.status(path, Authorization=f"Basic {server.token}") == 401
    assert server.status(path, Cookie=f"raysearch-ui-{server.port}=wrong") == 401
    assert server.status("/?token=wrong") == 401
    assert server.status("/?token=") == 401


@pytest.mark.slow
def test_models_cannot_be_changed_without_the_token(server: UiServer) -> None:
    alias = {"name": "m", "alias": "champion", "version": "2"}
    for path, content in (
        (f"{API}/registered-models/alias", alias),
        (f"{API}/registered-models/rename", {"name": "m", "new_name": "n"}),
        (f"{API}/experiments/create", {"name": "other"}),
    ):
        assert server.answer(path, content=content)[0] == 401
    client = MlflowClient(tracking_uri=f"sqlite:///{server.folder}/mlflow.db")
    assert str(client.get_model_version_by_alias("m", "champion").version) == "1"


@pytest.mark.slow
def test_the_printed_address_logs_a_browser_in(server: UiServer) -> None:
    status, _, headers = server.answer(f"/?token={server.token}")
    assert (status, headers["Location"]) == (303, "/")
    attributes = headers["Set-Cookie"].lower().replace("; ", ";").split(";")[1:]
    assert {"httponly", "samesite=strict", "path=/"} == set(attributes)
    assert server.token not in str(headers)
    cookie = server.login()
    assert server.status("/", Cookie=cookie) == 200
    assert server.status(EXPERIMENTS, Cookie=cookie) == 200
    # The token logs in at the first page only.
    assert server.status(f"{EXPERIMENTS}&token={server.token}") == 401


@pytest.mark.slow
@pytest.mark.parametrize("host", ["10.evil.com", "10.evil.com:{port}", "127.0.0.1", "[::1]:1", ""])
def test_other_host_names_are_rejected(server: UiServer, host: str) -> None:
    name = host.format(port=server.port)
    token = f"Bearer {server.token}"
    for path in (EXPERIMENTS, "/health", f"/?token={server.token}"):
        assert server.status(path, Authorization=token, Host=name) in (400, 403)
    assert server.status(EXPERIMENTS, Authorization=token, Host=f"localhost:{server.port}") == 200


@pytest.mark.slow
def test_pages_of_other_origins_are_rejected(server: UiServer) -> None:
    cookie = server.login()
    for origin in (
        "http://127.0.0.1:9999",
        "http://localhost",
        f"http://localhost.evil.com:{server.port}",
        f"http://127.0.0.1:{server.port}@evil.com",
        f"file://127.0.0.1:{server.port}",
        "null",
    ):
        status, _, headers = server.answer(EXPERIMENTS, {"Cookie": cookie, "Origin": origin})
        assert status == 403, origin
        assert headers["Access-Control-Allow-Origin"] is None
    assert server.status(EXPERIMENTS, Cookie=cookie, Origin=server.address) == 200
    for site in ("same-site", "cross-site"):
        assert server.status(EXPERIMENTS, Cookie=cookie, Sec_Fetch_Site=site) == 403
        assert server.status("/", Cookie=cookie, Sec_Fetch_Site=site) == 403
        link = {"Sec_Fetch_Site": site, "Sec_Fetch_Dest": "document"}
        assert server.status("/", Cookie=cookie, **link) == 200
        assert server.status(EXPERIMENTS, Cookie=cookie, **link) == 403
    for site in ("same-origin", "none"):
        assert server.status(EXPERIMENTS, Cookie=cookie, Sec_Fetch_Site=site) == 200


@pytest.mark.slow
def test_the_assistant_of_mlflow_which_runs_commands_is_switched_off(server: UiServer) -> None:
    cookie = server.login()
    for path in ("config", "message", "%63onfig", "providers/claude_code/health"):
        for prefix in ("/ajax-api/3.0/mlflow/assistant", "/ajax-api/3.0/mlflow/%61ssistant"):
            assert server.status(f"{prefix}/{path}", Cookie=cookie) == 403
    assert server.answer("/ajax-api/3.0/mlflow/assistant/message", {"Cookie": cookie}, {})[0] == 403


@pytest.mark.slow
def test_the_python_client_logs_in_by_the_token(
    server: UiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(tracking_uri=server.address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MlflowException, match="401"):
        client.search_experiments()
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", server.token)
    assert "study" in {experiment.name for experiment in client.search_experiments()}
    run = client.create_run(client.create_experiment("of the client"))
    client.log_text(run.info.run_id, "written by the client", "notes/text.txt")
    query = f"run_id={run.info.run_id}&path=notes/text.txt"
    cookie = server.login()
    assert server.answer(f"/get-artifact?{query}", {"Cookie": cookie})[1] == "written by the client"


@pytest.mark.slow
def test_artifacts_outside_the_folder_are_not_served(server: UiServer, tmp_path: Path) -> None:
    """Neither from a location that somebody names, nor through a link, and nothing is written."""
    headers = {"Authorization": f"Bearer {server.token}"}
    (tmp_path / "private.txt").write_text(SECRET)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "link.txt").symlink_to(tmp_path / "private.txt")
    places = (str(tmp_path), tmp_path.as_uri(), str(tmp_path / "links"))
    for number, location in enumerate(places):
        content = {"name": f"planted-{number}", "artifact_location": location}
        _, text, _ = server.answer(f"{API}/experiments/create", headers, content)
        run = {"experiment_id": json.loads(text)["experiment_id"]}
        _, text, _ = server.answer(f"{API}/runs/create", headers, run)
        info = json.loads(text)["run"]["info"]
        artifacts = Path(info["artifact_uri"].removeprefix("file://"))
        artifacts.mkdir(parents=True)
        for name in ("private.txt", "link.txt"):
            (artifacts / name).symlink_to(tmp_path / "private.txt")
            query = f"run_id={info['run_id']}&path={name}"
            status, text, _ = server.answer(f"/get-artifact?{query}", headers)
            assert (status, SECRET in text) == (403, False)
        status, text, _ = server.answer(f"{API}/artifacts/list?run_id={info['run_id']}", headers)
        assert (status, "private.txt" in text) == (403, False)
        upload = f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={info['run_id']}&path=new.txt"
        assert server.answer(upload, headers, "content")[0] == 403
        assert not (artifacts / "new.txt").exists()


@pytest.mark.slow
def test_links_inside_the_studys_folder_are_not_followed(server: UiServer, tmp_path: Path) -> None:
    headers = {"Authorization": f"Bearer {server.token}"}
    (tmp_path / "private.txt").write_text(SECRET)
    client = MlflowClient(tracking_uri=f"sqlite:///{server.folder}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("study").experiment_id])
    folder = Path(run.info.artifact_uri)
    for name, target in (("file.txt", "private.txt"), ("folder", ".")):
        (folder / name).symlink_to(tmp_path / target)
    query = f"run_id={run.info.run_id}&path="
    assert server.answer(f"/get-artifact?{query}own.txt", headers)[1] == "an artifact"
    for path in ("file.txt", "folder/private.txt"):
        status, text, _ = server.answer(f"/get-artifact?{query}{path}", headers)
        assert (status, SECRET in text) == (403, False)
    text = server.answer(f"{API}/artifacts/list?run_id={run.info.run_id}", headers)[1]
    assert [file["path"] for file in json.loads(text)["files"]] == ["own.txt"]
    proxied = server.folder / "mlartifacts"
    proxied.mkdir(exist_ok=True)
    (proxied / "link.txt").symlink_to(tmp_path / "private.txt")
    status, text, _ = server.answer(f"{API}-artifacts/artifacts/link.txt", headers)
    assert (status, SECRET in text) == (403, False)


@pytest.mark.slow
def test_object_stores_that_the_server_does_not_use_are_not_read(server: UiServer) -> None:
    headers = {"Authorization": f"Bearer {server.token}"}
    content = {"name": "bucket", "artifact_location": "s3://a-bucket-of-others/x"}
    _, text, _ = server.answer(f"{API}/experiments/create", headers, content)
    run = {"experiment_id": json.loads(text)["experiment_id"]}
    _, text, _ = server.answer(f"{API}/runs/create", headers, run)
    query = f"run_id={json.loads(text)['run']['info']['run_id']}"
    assert server.answer(f"{API}/artifacts/list?{query}", headers)[0] == 403


@pytest.mark.slow
def test_a_server_is_reachable_on_loopback_only_and_its_files_are_private(server: UiServer) -> None:
    assert listening(server.process.pid) == {("127.0.0.1", server.port)}
    for path in server.folder.rglob("*"):
        if path.name.startswith("mlflow.db"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.slow
def test_the_token_is_not_logged_and_can_be_set(tmp_path: Path) -> None:
    token = "a-token-of-20-or-more-characters"
    with running_ui(tmp_path / "work", RAYSEARCH_UI_TOKEN=token) as server:
        assert server.token == token
        server.login()
        assert server.status("/?token=a-wrong-token") == 401
        assert server.status(f"/other?token={token}") == 401
        assert server.status(f"/?token={token}", Host="10.evil.com") in (400, 403)
        for process in session(server.process.pid):
            assert token.encode() not in (process / "cmdline").read_bytes()
    log = "".join(server.output[1:])
    assert '"GET / HTTP/1.1" 303' in log
    assert "token=" not in log


def test_a_busy_port_is_rejected_within_a_second_of_the_imports(run: Commands) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        error = run("ui", "--port", str(port), code=2).stderr
    assert error.startswith(f"raysearch: --port {port}: in use by another program at 127.0.0.1")
    assert error.count("\n") == 1


def test_a_server_that_does_not_listen_yet_keeps_its_port_from_another(run: Commands) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
    first = run.start("ui", "--port", str(port))
    try:
        sockets, until = Path("/proc/net/unix"), time.monotonic() + 60
        while f"@raysearch-ui/127.0.0.1/{port}" not in sockets.read_text():
            assert time.monotonic() < until
            time.sleep(0.1)
        error = run("ui", "--port", str(port), code=2).stderr
        assert first.poll() is None
    finally:
        first.terminate()
        first.wait()
    assert error.startswith(f"raysearch: --port {port}: in use by another program at 127.0.0.1")


@pytest.mark.slow
def test_a_short_token_and_names_with_wildcards_are_rejected(run: Commands) -> None:
    short = Commands(run.folder, {"RAYSEARCH_UI_TOKEN": "short"})("ui", code=2)
    assert "RAYSEARCH_UI_TOKEN: not 20 to 200" in short.stderr
    assert "--allowed-hosts *: no host name" in run("ui", "--allowed-hosts", "*", code=2).stderr


@pytest.mark.slow
def test_a_teams_server_tightens_its_files_and_rejects_other_pages(tmp_path: Path) -> None:
    folder = tmp_path / "team"
    (folder / "mlartifacts").mkdir(parents=True)
    folder.chmod(0o777)
    database = folder / "mlflow.db"
    database.touch(0o644)
    (folder / "basic_auth.db").touch(0o666)
    (tmp_path / "private.txt").write_text(SECRET)
    environment = {"MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD}
    with running_ui(folder, "--server", **environment) as server:
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert modes == {"mlflow.db": 0o600, "basic_auth.db": 0o600, "mlartifacts": 0o700}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755
        assert listening(server.process.pid) == {("127.0.0.1", server.port)}
        login = {"Authorization": f"Basic {basic('admin', PASSWORD)}"}
        assert server.answer(EXPERIMENTS, login)[0] == 200
        for path in ("/", EXPERIMENTS, "/version", "/ajax-api/3.0/mlflow/assistant/config"):
            assert server.status(path) in (401, 403)
        assert server.answer(EXPERIMENTS, login | {"Origin": "http://127.0.0.1:9999"})[0] == 403
        assert server.answer("/health", {"Host": "10.evil.com"})[0] == 403
        content = {"name": "planted", "artifact_location": str(tmp_path)}
        _, text, _ = server.answer(f"{API}/experiments/create", login, content)
        _, text, _ = server.answer(f"{API}/runs/create", login, json.loads(text))
        query = f"run_id={json.loads(text)['run']['info']['run_id']}"
        assert server.answer(f"{API}/artifacts/list?{query}", login)[0] == 403


def test_a_database_in_a_folder_of_all_users_or_of_another_user_is_rejected(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(0o1777)
    with pytest.raises(StudyError, match="a folder of all users"):
        close_to_others([folder / "mlflow.db"], [])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
    if os.geteuid() == 0:  # only the administrator gives files away
        os.chown(folder, 12345, 12345)
        with pytest.raises(StudyError, match="belongs to another user"):
            close_to_others([folder / "mlflow.db"], [])


def basic(user: str, password: str) -> str:
    """A login as the header `Authorization` contains it."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def session(leader: int) -> list[Path]:
    """The processes of a session, as folders of /proc."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if os.getsid(int(entry.name)) == leader:
                    members.append(entry)
    return members


def listening(leader: int) -> set[tuple[str, int]]:
    """The sockets at which the processes of a session listen."""
    inodes = set()
    for process in session(leader):
        for descriptor in (process / "fd").iterdir():
            with suppress(OSError):
                inodes.add(str(descriptor.readlink()))
    sockets = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            host, _, port = local.partition(":")
            if state == "0A" and f"socket:[{inode}]" in inodes:
                words = [bytes.fromhex(host[i : i + 8])[::-1] for i in range(0, len(host), 8)]
                sockets.add((socket.inet_ntop(family, b"".join(words)), int(port, 16)))
    return sockets


@pytest.mark.parametrize("host", ["foo.invalid", "192.0.2.1", "foo..bar"])
def test_a_host_that_is_not_of_this_machine_is_named_instead_of_the_port(host: str) -> None:
    with pytest.raises(StudyError, match=f"--host {host}: .*; name an address of this machine"):
        _check_port(host, 5000)


def test_another_port_is_suggested_that_exists() -> None:
    with socket.socket() as used:
        try:
            used.bind(("127.0.0.1", 65535))
        except OSError:
            pass  # another program uses it
        else:
            used.listen()
        with pytest.raises(StudyError, match=r"choose another, such as --port 65534$"):
            _check_port("127.0.0.1", 65535)


def test_the_schema_of_a_database_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(tracking_store, "check_schema", calls.append)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mysql+pymysql://localhost/runs")
    monkeypatch.setattr(tracking_store, "check_driver", lambda _store: None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match="--host"):
        ui(host="0.0.0.0")
    assert calls == ["mysql+pymysql://localhost/runs"]


def test_a_tracking_server_that_does_not_answer_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr(study_view, "study_links", lambda *_words: pytest.fail("it was asked"))
    with pytest.raises(StudyError, match=r"^http://127.0.0.1:9: cannot be used .*refused"):
        ui(open_in_browser=True)


@pytest.mark.parametrize("link", ["http://me:word@host:1#/experiments/1", None])
def test_the_newest_study_of_a_tracking_server_is_opened_without_a_login(
    monkeypatch: pytest.MonkeyPatch, link: str | None
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "http://me:word@host:1")
    monkeypatch.setattr(tracking_store, "store_error", lambda _store: "")
    links = [] if link is None else [("first", link), ("second", "http://host:1#/experiments/2")]
    monkeypatch.setattr(study_view, "study_links", lambda *_words: links)
    assert ui(server=True, open_in_browser=True) == 0
    assert opened == ["http://host:1" if link is None else "http://host:1#/experiments/1"]
