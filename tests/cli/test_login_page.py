"""The page by which `raysearch ui --open` passes a token to a browser."""

from __future__ import annotations

import stat
import webbrowser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from starlette.applications import Starlette
from starlette.requests import HTTPConnection

from raysearch.cli.login_page import open_privately
from raysearch.search.tracking.ui_access import UiAccess

TOKEN = "a-token-of-20-or-more-characters"
ADDRESS = f"http://127.0.0.1:5000/?token={TOKEN}#/experiments/1/runs?a=b&c=d"


def test_the_token_is_in_a_page_of_this_user_and_not_in_the_arguments_of_the_browser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    opened: list[str] = []

    def browser(address: str) -> None:
        opened.append(address)
        page = Path(unquote(urlsplit(address).path))
        assert ADDRESS.replace("&", "&amp;") in page.read_text()
        assert stat.S_IMODE(page.stat().st_mode) == 0o600
        assert stat.S_IMODE(page.parent.stat().st_mode) == 0o700
        assert page.parent.parent == tmp_path

    monkeypatch.setattr(webbrowser, "open", browser)
    open_privately(ADDRESS, lambda: False)
    (address,) = opened
    assert address.startswith("file:///")
    assert TOKEN not in address
    assert not list(tmp_path.iterdir())


def test_a_home_that_cannot_be_written_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "gone"))
    open_privately(ADDRESS, lambda: False)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "No such file or directory" in error


@pytest.mark.parametrize(
    ("path", "token", "destination", "status"),
    [
        ("/", TOKEN, "document", 200),
        ("/", "wrong", "document", 401),
        ("/", TOKEN, "iframe", 403),
        ("/", TOKEN, "empty", 403),
        ("/ajax-api/2.0/mlflow/experiments/search", TOKEN, "document", 403),
    ],
)
def test_another_page_can_only_log_in_by_the_token_of_the_server(
    path: str, token: str, destination: str, status: int
) -> None:
    headers = {
        "host": "127.0.0.1:5000",
        "sec-fetch-site": "cross-site",
        "sec-fetch-dest": destination,
    }
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "query_string": f"token={token}".encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "server": ("127.0.0.1", 5000),
    }
    response = UiAccess(Starlette(), ["127.0.0.1:5000"], TOKEN)._answer(HTTPConnection(scope))
    assert response is not None
    assert response.status_code == status
    # The cookie is not sent with a redirect of another page: a page loads the first one.
    assert ("set-cookie" in response.headers) == (status == 200)
    assert (b"location.replace" in response.body) == (status == 200)
    assert TOKEN.encode() not in response.body
