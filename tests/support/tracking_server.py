"""A real tracking server, and a proxy in front of it that is slow or loses answers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server:
    """`mlflow server` with a database in `folder`, always at the same port."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.address = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._start()

    @property
    def session(self) -> int:
        """The session of its processes."""
        return self._process.pid

    def signal(self, signum: signal.Signals) -> None:
        os.killpg(self._process.pid, signum)
        if signum == signal.SIGKILL:
            self._process.wait()

    def resume(self) -> None:
        """Answer again, as a new process if the last one was killed."""
        if self._process.returncode is None:
            self.signal(signal.SIGCONT)
        else:
            self._start()

    def _start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db"]
        self._process = subprocess.Popen(
            command,
            cwd=self._folder,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=2)
            except (urllib.error.URLError, OSError):
                time.sleep(0.3)
            else:
                return
        self.signal(signal.SIGKILL)
        raise AssertionError("the server did not start")


class Proxy:
    """Forwards requests to a server; delays them, or loses every second answer of each kind."""

    def __init__(self, port: int) -> None:
        self.delay_s, self.loses_answers = 0.0, False
        self.paths: list[str] = []
        self._last_lost: dict[tuple[str, str], bool] = defaultdict(bool)
        self._server_address = f"http://127.0.0.1:{port}"
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if self.raw_requestline and self.parse_request():
                    proxy.forward(self)
                self.close_connection = True

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def forward(self, handler: BaseHTTPRequestHandler) -> None:
        self.paths.append(handler.path.partition("?")[0])
        time.sleep(self.delay_s)
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        request = urllib.request.Request(
            self._server_address + handler.path,
            body or None,
            {"Content-Type": handler.headers.get("Content-Type", "application/json")},
            method=handler.command,
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                status, body = response.status, response.read()
        except urllib.error.HTTPError as rejected:
            status, body = rejected.code, rejected.read()
        kind = (handler.command, handler.path.partition("?")[0])
        self._last_lost[kind] = self.loses_answers and not self._last_lost[kind]
        if self._last_lost[kind]:
            return
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        handler.wfile.write(body)
