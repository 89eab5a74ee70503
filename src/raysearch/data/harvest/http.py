"""Addresses read over HTTP: at a pace, again after a failure, and never more than was agreed."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from raysearch import __version__
from raysearch.errors import DataError

# Seconds before each further try; a server that says how long gets that, up to LONGEST_S.
WAITS_S = (1.0, 2.0, 4.0, 8.0)
LONGEST_S = 120.0
AGAIN = (429, 500, 502, 503, 504)
NEVER = (404, 410)
SILENCE_S, WHOLE_S = 30.0, 900.0


class AnswerError(Exception):
    """A server that has no such thing, or none that can be used; the message is the reason.

    `lasting` where asking again would not help.
    """

    def __init__(self, reason: str, lasting: bool = False) -> None:
        super().__init__(reason)
        self.lasting = lasting


class Web:
    """Reads addresses, no two within `gap_s` seconds of each other.

    `clock` tells seconds and `pause` waits for some.
    """

    def __init__(
        self,
        gap_s: float,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gap_s, self._clock, self._pause = gap_s, clock, pause
        self._next_s = 0.0

    def get(self, address: str, max_bytes: int) -> bytes:
        """What is at `address`, an http or https one.

        AnswerError where the server rejects it, keeps failing, or has more than `max_bytes`.
        DataError where no server answers: there is no use in asking for the next thing then.
        """
        where = _shown(address)
        reason, silent = "", False
        for wait_s in (*WAITS_S, None):
            self._keep_pace()
            asked_s = 0.0
            try:
                return self._read(address, max_bytes)
            except urllib.error.HTTPError as error:
                error.close()
                reason, silent = f"HTTP {error.code} from {where}", False
                if error.code not in AGAIN:
                    raise AnswerError(reason, error.code in NEVER) from None
                asked_s = _retry_after(error.headers.get("Retry-After"), datetime.now(UTC))
            except (OSError, http.client.HTTPException) as error:
                reason, silent = f"{where} does not answer ({_brief(error)})", True
            if asked_s > LONGEST_S:
                raise DataError(f"{where} asks to wait {asked_s:.0f} s; run the command again then")
            if wait_s is not None:
                self._pause(max(wait_s, asked_s))
        if silent:
            raise DataError(f"{reason}; see the network, and run the command again to go on")
        raise AnswerError(f"{reason}, {len(WAITS_S) + 1} times")

    def _keep_pace(self) -> None:
        wait_s = self._next_s - self._clock()
        if wait_s > 0:
            self._pause(wait_s)
        self._next_s = max(self._next_s, self._clock()) + self._gap_s

    def _read(self, address: str, max_bytes: int) -> bytes:
        if urlsplit(address).scheme not in ("http", "https"):
            raise AnswerError(f"{_shown(address)}: neither http nor https", lasting=True)
        until = self._clock() + WHOLE_S
        request = urllib.request.Request(  # noqa: S310 the scheme was looked at
            address, headers={"User-Agent": f"raysearch/{__version__}"}
        )
        with urllib.request.urlopen(request, timeout=SILENCE_S) as answer:  # noqa: S310
            said = answer.length
            content = bytearray()
            while some := answer.read1(2**16):
                content += some
                if len(content) > max_bytes or (said or 0) > max_bytes:
                    raise AnswerError(f"larger than {max_bytes / 10**6:,.0f} MB")
                if self._clock() > until:
                    raise AnswerError(f"takes longer than {WHOLE_S:.0f} s to download")
        if said is not None and len(content) < said:
            raise http.client.IncompleteRead(b"", said - len(content))
        return bytes(content)


def _shown(address: str) -> str:
    """`address` without its query, which may hold a key."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _brief(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return str(getattr(reason, "strerror", None) or reason or type(error).__name__)


def _retry_after(said: str | None, now: datetime) -> float:
    """The seconds that a Retry-After header asks for, a number or a date; 0 where it says none.

    https://www.rfc-editor.org/rfc/rfc9110#name-retry-after
    """
    if said is None:
        return 0.0
    if said.strip().isdecimal():
        return float(said)
    try:
        date = parsedate_to_datetime(said)
    except ValueError:
        return 0.0
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - now).total_seconds())
