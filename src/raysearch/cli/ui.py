"""`raysearch ui`: the MLflow UI on the store that the studies are in, for one person or a team."""

from __future__ import annotations

import os
import secrets
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from raysearch.errors import StudyError, without_passwords

FILE = "sqlite:///"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"  # noqa: S105 the name of a variable
PASSWORD_LENGTH = 12
SECRET = "MLFLOW_FLASK_SERVER_SECRET_KEY"  # noqa: S105 the name of a variable


def ui(
    port: Annotated[int, typer.Option(help="The port.", min=1, max=65535)] = 5000,
    server: Annotated[
        bool, typer.Option("--server", help="Serve a team: with login, for named hosts.")
    ] = False,
    host: Annotated[
        str, typer.Option(help="The address to listen at; beyond this machine with --server.")
    ] = "127.0.0.1",
    allowed_hosts: Annotated[
        str, typer.Option(help="Further names that browsers and trials call it by, with commas.")
    ] = "",
) -> int | None:
    """Open the MLflow UI on the store that `launch` wrote to from this folder.

    With `--server`, the tracking server of a cluster: its login is MLflow's, with the password of
    `admin` in MLFLOW_AUTH_ADMIN_PASSWORD, its database `mlflow.db` here or the one that
    MLFLOW_BACKEND_STORE_URI names (PostgreSQL, say).

    Example: `raysearch ui --port 5001`
    """
    from raysearch.search.tracking.tracker import DEFAULT_STORE, default_store

    store = os.environ.get("MLFLOW_BACKEND_STORE_URI") if server else default_store()
    store = store or DEFAULT_STORE
    console = Console()
    if store.startswith(("http://", "https://")):
        where = without_passwords(store)
        console.print(f"The studies are on the tracking server {where}: open it in a browser.")
        return 0
    if not server and host not in LOOPBACK:
        raise StudyError(
            f"--host {host}: would show the studies to everybody there; add --server, which asks"
            " for a login, or leave --host out"
        )
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    environment = {
        **os.environ,
        # Not among the arguments, which every process here may read: it may hold a password.
        "MLFLOW_BACKEND_STORE_URI": store,
        # Its job queue starts nine processes that a search has no use for.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # Four by default, each of 200 MB and some seconds to start.
        "MLFLOW_WORKERS": os.environ.get("MLFLOW_WORKERS", "2" if server else "1"),
    }
    if server:
        environment |= _with_login(host, port, allowed_hosts)
        command += ["--app-name", "basic-auth"]
        os.umask(0o077)  # its databases are for this user's eyes alone
    where = "its database" if server else without_passwords(store)
    console.print(f"MLflow UI on {where}: http://{host}:{port}  (Ctrl-C ends it)")
    if not server and os.path.exists(store.removeprefix(FILE)):  # noqa: PTH110 no path of ours
        from raysearch.search.tracking.ui_columns import study_links

        for name, link in study_links(store, f"http://{host}:{port}"):
            console.print(f"Compare   {escape(name)}: {link}", soft_wrap=True)
    sys.stdout.flush()
    # In place of this process, so that every signal reaches the server itself.
    return os.execve(sys.executable, command, environment)  # noqa: S606 no shell is wanted


def _with_login(host: str, port: int, allowed_hosts: str) -> dict[str, str]:
    """The environment of a server that asks for a login, and answers to these hosts alone."""
    if len(os.environ.get(PASSWORD, "")) < PASSWORD_LENGTH:
        raise StudyError(
            f"{PASSWORD}: not set, or shorter than {PASSWORD_LENGTH} characters; set it to the"
            " password that `admin` is to have"
        )
    names = [one for one in allowed_hosts.split(",") if one]
    known = [f"{one}:{port}" for one in dict.fromkeys((host, *LOOPBACK[:2], *names))]
    return {
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join([*known, *names]),
        SECRET: os.environ.get(SECRET, secrets.token_hex(32)),
    }
