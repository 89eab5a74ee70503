"""`raysearch ui`: starts the MLflow UI on the tracking store, for one user or a team."""

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
MIN_PASSWORD_LENGTH = 12
SECRET = "MLFLOW_FLASK_SERVER_SECRET_KEY"  # noqa: S105 the name of a variable


def ui(
    port: Annotated[int, typer.Option(help="The port.", min=1, max=65535)] = 5000,
    server: Annotated[
        bool, typer.Option("--server", help="Serve a team: with a login, for the allowed hosts.")
    ] = False,
    host: Annotated[
        str, typer.Option(help="The address to listen at; other than loopback only with --server.")
    ] = "127.0.0.1",
    allowed_hosts: Annotated[
        str, typer.Option(help="More host names that clients may use, separated by commas.")
    ] = "",
) -> int | None:
    """Start the MLflow UI on the store that `launch` uses in this folder.

    With `--server`, start the tracking server of a cluster. It requires MLflow's login; the
    password of `admin` is MLFLOW_AUTH_ADMIN_PASSWORD. Its database is MLFLOW_BACKEND_STORE_URI,
    for example PostgreSQL, or `mlflow.db` in this folder.

    Example: `raysearch ui --port 5001`
    """
    from raysearch.search.tracking.tracking_store import DEFAULT_STORE, default_store

    store = os.environ.get("MLFLOW_BACKEND_STORE_URI") if server else default_store()
    store = store or DEFAULT_STORE
    console = Console()
    if store.startswith(("http://", "https://")):
        address = without_passwords(store)
        console.print(f"The studies are on the tracking server {address}: open it in a browser.")
        return 0
    if not server and host not in LOOPBACK:
        raise StudyError(
            f"--host {host}: the studies would be visible to everybody on that network; add"
            " --server, which requires a login, or remove --host"
        )
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    environment = {
        **os.environ,
        # Every process can read the arguments, and the store may contain a password.
        "MLFLOW_BACKEND_STORE_URI": store,
        # The job queue starts nine processes that studies do not need.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # The default is four, each with 200 MB of memory and several seconds to start.
        "MLFLOW_WORKERS": os.environ.get("MLFLOW_WORKERS", "2" if server else "1"),
    }
    if server:
        environment |= _login_environment(host, port, allowed_hosts)
        command += ["--app-name", "basic-auth"]
        os.umask(0o077)  # only this user can read its databases
    shown_store = "its database" if server else without_passwords(store)
    console.print(f"MLflow UI on {shown_store}: http://{host}:{port}  (Ctrl-C ends it)")
    if not server and os.path.exists(store.removeprefix(FILE)):  # noqa: PTH110 any text
        from raysearch.search.tracking.tracking_store import study_links

        for name, link in study_links(store, f"http://{host}:{port}"):
            console.print(f"Compare   {escape(name)}: {link}", soft_wrap=True)
    sys.stdout.flush()
    # The server replaces this process, so that every signal reaches it.
    return os.execve(sys.executable, command, environment)  # noqa: S606 no shell is needed


def _login_environment(host: str, port: int, allowed_hosts: str) -> dict[str, str]:
    """Return the environment of a server that requires a login and allows these hosts only."""
    if len(os.environ.get(PASSWORD, "")) < MIN_PASSWORD_LENGTH:
        raise StudyError(
            f"{PASSWORD}: not set, or shorter than {MIN_PASSWORD_LENGTH} characters; set it to the"
            " password of `admin`"
        )
    names = [name for name in allowed_hosts.split(",") if name]
    addresses = [f"{name}:{port}" for name in dict.fromkeys((host, *LOOPBACK[:2], *names))]
    return {
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join([*addresses, *names]),
        SECRET: os.environ.get(SECRET, secrets.token_hex(32)),
    }
