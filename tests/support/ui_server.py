"""A running `raysearch ui`, and requests to it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from subprocess import Popen

from conftest import Commands, await_answer

# The password of `admin` on a team's server.
PASSWORD = "planted-Passw0rd-of-mlflow"


@dataclass(frozen=True)
class UiServer:
    """A running `raysearch ui`."""

    port: int
    folder: Path
    process: Popen[str]
    output: list[str] = field(default_factory=list)

    @property
    def token(self) -> str:
        match = re.search(rf"http://127.0.0.1:{self.port}/\?token=([\w-]+)", self.output[0])
        assert match is not None, self.output
        return match[1]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(
        self,
        path: str,
        headers: Mapping[str, str] | None = None,
        content: object = None,
    ) -> tuple[int, str, Message]:
        """The status, text and headers of the answer to a request; redirects are not followed."""
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"{self.address}{path}", data, dict(headers or {}))
        if data is not None:
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=60) as response:
                return response.status, response.read().decode(errors="replace"), response.headers
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace"), error.headers

    def status(self, path: str, **headers: str) -> int:
        """The status of a request; `_` in the names of headers is `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.answer(path, named)[0]

    def login(self) -> str:
        """The cookie that the printed address sets."""
        status, _, headers = self.answer(f"/?token={self.token}")
        assert status == 303
        return headers["Set-Cookie"].partition(";")[0]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: object) -> None:
        return None


@contextmanager
def running_ui(folder: Path, *words: str, **environment: str) -> Iterator[UiServer]:
    """A server in `folder` with further words of its command line."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    folder.mkdir(exist_ok=True)
    process = Commands(folder, environment).start("ui", *words, "--port", str(port))
    assert process.stdout is not None
    server = UiServer(port, folder, process, [process.stdout.readline()])
    try:
        # The address is printed once the server listens.
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            pass
        await_answer(f"{server.address}/health")
        yield server
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        server.output.extend(process.communicate(timeout=60))
