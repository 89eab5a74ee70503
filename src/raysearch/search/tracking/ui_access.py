"""Admits to MLflow's UI its own pages, and clients that are logged in.

A server on loopback is reachable by every account of the machine, and by every web page that the
user's browser shows. Three checks keep them out: the host that the request names, the page that
sent it, and a token.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")
HTTP_PORT = 80
# The parameter of the address at which a browser logs in.
TOKEN_PARAMETER = "token"  # noqa: S105 the name of a parameter
INDEX, HEALTH = "/", "/health"
# MLflow's assistant runs shell commands of a language model on the server; no study needs it.
ASSISTANT = "/mlflow/assistant"
# What browsers send with requests of the user and of the UI's own pages.
OWN_SITES = ("same-origin", "none")
# After a login from another page, such as that of `raysearch ui --open`, a redirect would still be
# a request of that page, and browsers send no cookie with it. This page loads the first page.
NEXT_PAGE = """<!doctype html>
<title>MLflow</title>
<script>location.replace("/" + location.hash)</script>
"""


class UiAccess:
    """An ASGI application that passes a request to another one if it is allowed.

    Args:
        app: The application, such as MLflow's.
        hosts: The values of the header `Host` that are allowed, with their ports.
        token: The token that every request but that for the health requires, in a cookie or in the
            header `Authorization: Bearer`; None if the application has a login of its own.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], token: str | None) -> None:
        self._app, self._token = app, token
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it to the application."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        response = self._answer(HTTPConnection(scope))
        if response is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await response(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _answer(self, connection: HTTPConnection) -> Response | None:
        """Return the answer to a request that is not passed on; None for the others."""
        path, is_get = connection.scope["path"], connection.scope.get("method") == "GET"
        presented = connection.query_params.get(TOKEN_PARAMETER)
        if presented is not None:
            connection.scope["query_string"] = b""  # the server logs the address of each request
        hosts = connection.headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return PlainTextResponse("This host name is not allowed.", 403)
        if ASSISTANT in path or not self._is_own_page(connection):
            text = "Requests of other pages and of MLflow's assistant are rejected."
            return PlainTextResponse(text, 403)
        if self._token is None or path == HEALTH:
            return None
        if path == INDEX and is_get and presented is not None:
            return self._login(connection, presented, self._token)
        if self._is_logged_in(connection, self._token):
            return None
        return PlainTextResponse(
            "Not logged in. Open the address that `raysearch ui` printed. A Python client sets"
            " MLFLOW_TRACKING_TOKEN to the token in that address.",
            401,
        )

    def _is_own_page(self, connection: HTTPConnection) -> bool:
        """Return whether the user, the UI's own page or a program sent the request."""
        headers = connection.headers
        for origin in headers.getlist("origin"):
            address = urlsplit(origin)
            if address.scheme not in ("http", "https") or address.netloc.lower() not in self._hosts:
                return False
        if headers.get("sec-fetch-site", "none") in OWN_SITES:
            return True
        # A link on another page may open the first page, which contains no data.
        opens_index = connection.scope["path"] == INDEX and connection.scope.get("method") == "GET"
        return opens_index and headers.get("sec-fetch-dest") == "document"

    def _login(self, connection: HTTPConnection, presented: str, token: str) -> Response:
        """Exchange the token in the address for a cookie."""
        if not _equal(presented, token):
            return PlainTextResponse("This token is not the one of this server.", 401)
        is_own = connection.headers.get("sec-fetch-site", "none") in OWN_SITES
        response = RedirectResponse(INDEX, 303) if is_own else HTMLResponse(NEXT_PAGE)
        response.set_cookie(
            _cookie_name(connection),
            _cookie_value(token),
            httponly=True,
            samesite="strict",
            secure=connection.url.scheme == "https",
        )
        response.headers["Cache-Control"] = "no-store"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    @staticmethod
    def _is_logged_in(connection: HTTPConnection, token: str) -> bool:
        """Return whether a request has the cookie, or the token as its authorization."""
        scheme, _, presented = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _equal(presented.strip(), token):
            return True
        return _equal(connection.cookies.get(_cookie_name(connection), ""), _cookie_value(token))


def allowed_hosts(host: str, port: int, names: Iterable[str] = ()) -> list[str]:
    """Return the values of the header `Host` of requests to a server.

    Args:
        host: The address at which it listens.
        port: Its port.
        names: More names, with the port, or without one if a proxy is in front of the server.
    """
    host_names = [address_host(host), *LOOPBACK_HOSTS]
    hosts = [f"{name}:{port}" for name in (*host_names, *names)]
    if port == HTTP_PORT:  # the port that clients leave out
        hosts += host_names
    return list(dict.fromkeys([*hosts, *names]))


def address_host(host: str) -> str:
    """Return a host as an address contains it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _equal(presented: str, expected: str) -> bool:
    return secrets.compare_digest(presented.encode(), expected.encode())


def _cookie_name(connection: HTTPConnection) -> str:
    """Return the name of the cookie: browsers send cookies to all ports of a host."""
    server = connection.scope.get("server")
    return f"raysearch-ui-{server[1] if server else 0}"


def _cookie_value(token: str) -> str:
    """Return what the cookie contains: from it, the token cannot be computed."""
    return hmac.new(token.encode(), b"raysearch-ui", hashlib.sha256).hexdigest()
