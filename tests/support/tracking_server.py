"""A real tracking server, and what may stand before it."""

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
    """`mlflow server` over a database in `folder`, always at the same port."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.address = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._start()

    def signal(self, signum: signal.Signals) -> None:
        os.killpg(self._process.pid, signum)
        if signum == signal.SIGKILL:
            self._process.wait()

    def go_on(self) -> None:
        """Answer again, as a new process where the last one was killed."""
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
        until = time.monotonic() + 120
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=2)
            except (urllib.error.URLError, OSError):
                time.sleep(0.3)
            else:
                return
        self.signal(signal.SIGKILL)
        raise AssertionError("the server did not start")


class Proxy:
    """Passes requests on to a server, late, or losing every other answer of each kind."""

    def __init__(self, port: int) -> None:
        self.delay_s, self.losing = 0.0, False
        self.asked: list[str] = []
        self._lost: dict[tuple[str, str], bool] = defaultdict(bool)
        self._behind = f"http://127.0.0.1:{port}"
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if self.raw_requestline and self.parse_request():
                    outer.pass_on(self)
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

    def pass_on(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(handler.path.partition("?")[0])
        time.sleep(self.delay_s)
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        request = urllib.request.Request(
            self._behind + handler.path,
            body or None,
            {"Content-Type": handler.headers.get("Content-Type", "application/json")},
            method=handler.command,
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                status, answer = reply.status, reply.read()
        except urllib.error.HTTPError as rejected:
            status, answer = rejected.code, rejected.read()
        kind = (handler.command, handler.path.partition("?")[0])
        self._lost[kind] = self.losing and not self._lost[kind]
        if self._lost[kind]:
            return
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(answer)))
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        handler.wfile.write(answer)
