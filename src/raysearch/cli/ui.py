"""`raysearch ui`: starts the MLflow UI on the tracking store, for one user or a team."""

from __future__ import annotations

import errno
import os
import re
import secrets
import signal
import socket
import stat
import sys
import time
import webbrowser
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from raysearch.cli.login_page import open_privately
from raysearch.cli.safe_console import SafeConsole
from raysearch.data.file_access import SHARED_FOLDER, restrict
from raysearch.errors import StudyError, without_passwords
from raysearch.printable_text import printable

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"  # noqa: S105 the name of a variable
MIN_PASSWORD_LENGTH = 12
SECRET = "MLFLOW_FLASK_SERVER_SECRET_KEY"  # noqa: S105 the name of a variable
TOKEN = re.compile(r"[A-Za-z0-9_-]{20,200}")
HOST_NAME = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")
# MLflow's database of logins.
LOGINS = "basic_auth.db"
OTHERS_WRITE = 0o022
POLL_S = 0.2
MIN_PORT, MAX_PORT = 1024, 65535
PORT_IN_USE = "in use by another program"


def ui(
    port: Annotated[int, typer.Option(help="The port.", min=1, max=MAX_PORT)] = 5000,
    server: Annotated[
        bool, typer.Option("--server", help="Serve a team: with passwords, for the allowed hosts.")
    ] = False,
    host: Annotated[
        str, typer.Option(help="The address to listen at; other than loopback only with --server.")
    ] = "127.0.0.1",
    allowed_hosts: Annotated[
        str, typer.Option(help="More host names that clients may use, separated by commas.")
    ] = "",
    open_in_browser: Annotated[
        bool, typer.Option("--open", help="Open the newest study in a browser.")
    ] = False,
) -> int | None:
    """Start the MLflow UI on the tracking store of this folder.

    It prints an address with a token that logs a browser in, and the address at which each of the
    newest studies is compared. Other requests are rejected.

    With `--server`, start the tracking server of a cluster. It requires MLflow's login; the
    password of `admin` is MLFLOW_AUTH_ADMIN_PASSWORD. Its database is MLFLOW_BACKEND_STORE_URI,
    for example PostgreSQL, or `mlflow.db` in this folder.

    Example: `raysearch ui --port 5001`
    """
    from raysearch.search.tracking.tracking_store import (
        DATABASES,
        DEFAULT_STORE,
        check_driver,
        check_store,
        default_store,
        store_error,
    )

    store = os.environ.get("MLFLOW_BACKEND_STORE_URI") if server else default_store()
    store = store or DEFAULT_STORE
    check_driver(store)
    check_store(store)
    if not store.startswith(DATABASES) and (reason := store_error(store)):
        raise StudyError(f"{store}: cannot be used ({reason}); correct the address, or start it")
    if store.startswith(("http://", "https://")):
        return _show_tracking_server(store, open_in_browser)
    if not server and host not in LOOPBACK:
        raise StudyError(
            f"--host {host}: the studies would be visible to everybody on that network; add"
            " --server, which requires a login, or remove --host"
        )
    environment = {
        **os.environ,
        **_server_environment(store, host, port, allowed_hosts),
        # By default, uvicorn puts the working folder first on the search path of modules.
        "UVICORN_APP_DIR": os.devnull,
        # A warning about MLflow's own code, at each start.
        "PYTHONWARNINGS": os.environ.get(
            "PYTHONWARNINGS", "ignore:starlette.middleware.wsgi is deprecated"
        ),
        # The default is four, each with 200 MB of memory and several seconds to start.
        "MLFLOW_WORKERS": os.environ.get("MLFLOW_WORKERS", "2" if server else "1"),
    }
    _check_port(host, port)
    _reserve_port(host, port)
    application = _start_team(store, environment) if server else _start_user(store, environment)
    addresses = _addresses(store, host, port, environment)
    _print_when_listening(addresses, host, port, open_in_browser)
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", application]
    command += ["--host", host, "--port", str(port)]
    # The server replaces this process, so that every signal reaches it.
    return os.execve(sys.executable, command, environment)  # noqa: S606 no shell is needed


def _show_tracking_server(store: str, open_in_browser: bool) -> int:
    """Print the addresses of a tracking server and of its newest studies; return the exit code."""
    from raysearch.search.tracking.study_view import study_links

    console, links = SafeConsole(), study_links(store, store.rstrip("/"))
    address = without_passwords(store)
    console.print(
        f"The studies are on the tracking server {address}: open it in a browser.", soft_wrap=True
    )
    for name, link in links:
        console.print(f"Compare   {printable(name)}: {without_passwords(link)}", soft_wrap=True)
    if open_in_browser:
        parts = urlsplit(links[0][1] if links else store)
        # Every account of the machine can read the arguments of a browser: no login is in them.
        webbrowser.open(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())
    return 0


def _server_environment(store: str, host: str, port: int, names: str) -> dict[str, str]:
    """Return what MLflow's server reads: every process can read the arguments, and secrets leak."""
    from raysearch.search.tracking.ui_access import allowed_hosts
    from raysearch.search.tracking.ui_app import HOSTS_VARIABLE

    additional = [name.strip() for name in names.split(",") if name.strip()]
    for name in additional:
        if not HOST_NAME.fullmatch(name):
            raise StudyError(
                f"--allowed-hosts {name}: no host name; give names such as tracking.example.org,"
                " separated by commas"
            )
    return {
        "MLFLOW_BACKEND_STORE_URI": store,
        "MLFLOW_REGISTRY_STORE_URI": os.environ.get("MLFLOW_REGISTRY_STORE_URI", store),
        # The job queue starts nine processes that studies do not need.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",
        # A page of another origin may read nothing.
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "",
        HOSTS_VARIABLE: ",".join(allowed_hosts(host, port, additional)),
    }


def _start_user(_store: str, environment: dict[str, str]) -> str:
    """Set the token of a server for one user; return the name of its application."""
    from raysearch.search.tracking.ui_app import TOKEN_VARIABLE, USER_APP

    token = environment.setdefault(TOKEN_VARIABLE, secrets.token_urlsafe(32))
    if not TOKEN.fullmatch(token):
        raise StudyError(
            f"{TOKEN_VARIABLE}: not 20 to 200 letters, digits, `-` and `_`; set such a token, or"
            " remove the variable: then each start has a new token"
        )
    return USER_APP


def _start_team(store: str, environment: dict[str, str]) -> str:
    """Prepare the databases of a team's server; return the name of its application."""
    from raysearch.search.tracking.tracking_store import database_files
    from raysearch.search.tracking.ui_app import (
        FOLDERS,
        TEAM_APP,
        TOKEN_VARIABLE,
        bootstrap_login,
    )

    if len(environment.get(PASSWORD, "")) < MIN_PASSWORD_LENGTH:
        raise StudyError(
            f"{PASSWORD}: not set, or shorter than {MIN_PASSWORD_LENGTH} characters; set it to the"
            " password of `admin`"
        )
    environment.pop(TOKEN_VARIABLE, None)
    environment.setdefault(SECRET, secrets.token_hex(32))
    environment["MLFLOW_BASIC_AUTH_FAIL_CLOSED"] = "true"
    close_to_others([*database_files(store), Path(LOGINS).absolute()], map(Path, FOLDERS))
    os.environ[SECRET] = environment[SECRET]
    bootstrap_login()
    return TEAM_APP


def close_to_others(databases: Iterable[Path], folders: Iterable[Path]) -> None:
    """Close databases and folders that exist to other accounts, or share them by `--shared`.

    Only this user, or the group of a shared folder, can replace a database afterwards.

    Args:
        databases: SQLite databases; the files that SQLite keeps beside them are closed, too.
        folders: Folders of artifacts.

    Raises:
        StudyError: If something belongs to another user, or the folder of a database is a
            temporary folder of all users.
    """
    from raysearch.search.tracking.tracking_store import restrict_database

    for database in databases:
        place = database.resolve().parent
        if not place.is_dir():
            raise StudyError(f"{database}: no folder {place}; create it")
        mode = _own_mode(place)
        if mode & stat.S_ISVTX and mode & OTHERS_WRITE:
            raise StudyError(f"{place}: a folder of all users; start the server in your own")
        if mode & OTHERS_WRITE and stat.S_IMODE(mode) != SHARED_FOLDER:
            place.chmod(stat.S_IMODE(mode) & ~OTHERS_WRITE)
        if database.exists():
            _own_mode(database)
        restrict_database(database.resolve())
    for folder in folders:
        if folder.exists():
            _own_mode(folder)
            restrict(folder)


def _own_mode(path: Path) -> int:
    """Return the mode of a path of this user, or of the administrator."""
    status = path.stat()
    if status.st_uid not in (os.geteuid(), 0):
        raise StudyError(f"{path}: belongs to another user; start the server in your own folder")
    return status.st_mode


def _check_port(host: str, port: int) -> None:
    """Raise StudyError if this process cannot listen at `port`."""
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _name, address in places[:1]:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except (OSError, UnicodeError) as error:
        code = error.errno if isinstance(error, OSError) else None
        if code not in (errno.EADDRINUSE, errno.EACCES):
            reason = getattr(error, "strerror", None) or "not a host name"
            raise StudyError(
                f"--host {host}: {reason}; name an address of this machine, such as 127.0.0.1"
            ) from None
        reason = PORT_IN_USE if code == errno.EADDRINUSE else os.strerror(code)
        raise _port_error(host, port, reason) from None


def _reserve_port(host: str, port: int) -> None:
    """Raise StudyError if another `raysearch ui` starts at `port`: it listens only seconds later.

    The reservation is an abstract Unix socket, which ends with this process or the server that
    replaces it.
    """
    reservation = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        reservation.bind(f"\0raysearch-ui/{host}/{port}")
    except OSError:
        reservation.close()
        raise _port_error(host, port, PORT_IN_USE) from None
    os.set_inheritable(reservation.detach(), True)


def _port_error(host: str, port: int, reason: str) -> StudyError:
    # Ports below 1024 require privileges.
    other = port - 1 if port == MAX_PORT else max(port + 1, MIN_PORT)
    return StudyError(f"--port {port}: {reason} at {host}; choose another, such as --port {other}")


@dataclass(frozen=True)
class _Addresses:
    """The text with the addresses of a server, and the one that a browser opens first.

    Attributes:
        text: The text.
        first: The address.
        has_token: Whether the addresses contain a token.
    """

    text: str
    first: str
    has_token: bool


def _print_when_listening(
    addresses: _Addresses, host: str, port: int, open_in_browser: bool
) -> None:
    """Print the addresses once a server listens at `port`, from a process that then ends.

    This process becomes the server.
    """
    sys.stdout.flush()
    server = os.getpid()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    # The child of a child belongs to no process that would have to wait for it.
    try:
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.default_int_handler)
            _await_server(addresses, host, port, Path(f"/proc/{server}"), open_in_browser)
    finally:  # also after a signal to the group of the server
        os._exit(0)


def _await_server(
    addresses: _Addresses, host: str, port: int, process: Path, open_in_browser: bool
) -> None:
    """Print the addresses once a server listens at `port`, while its `process` exists."""
    while process.exists():
        with suppress(OSError), socket.create_connection((host, port), timeout=1):
            break
        time.sleep(POLL_S)
    else:
        return
    sys.stdout.write(addresses.text)
    sys.stdout.flush()
    if open_in_browser and addresses.has_token:
        open_privately(addresses.first, process.exists)
    elif open_in_browser:
        webbrowser.open(addresses.first)


def _addresses(store: str, host: str, port: int, environment: dict[str, str]) -> _Addresses:
    """Return the address of the UI and those of the newest studies, one a line."""
    from raysearch.search.tracking.study_view import study_links
    from raysearch.search.tracking.tracking_store import database_files
    from raysearch.search.tracking.ui_access import TOKEN_PARAMETER, address_host
    from raysearch.search.tracking.ui_app import TOKEN_VARIABLE

    address = f"http://{address_host(host)}:{port}"
    token = environment.get(TOKEN_VARIABLE)
    if token is None:
        text = f"MLflow UI on its database: {address}  (Ctrl-C ends it)\n"
        return _Addresses(text, address, has_token=False)
    address += f"/?{TOKEN_PARAMETER}={token}"
    lines = [f"MLflow UI on {without_passwords(store)}: {address}  (Ctrl-C ends it)"]
    has_store = any(file.exists() for file in database_files(store))
    links = study_links(store, address) if has_store else []
    lines += [f"Compare   {name}: {link}" for name, link in links]
    text = "".join(f"{printable(line)}\n" for line in lines)
    return _Addresses(text, links[0][1] if links else address, has_token=True)
