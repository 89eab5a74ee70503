"""Reads URLs over HTTP with a request rate limit, retries, and limits on size and time."""

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

# Seconds before each retry. If the server asks for a longer wait, the client waits as long as that,
# up to MAX_RETRY_AFTER_S.
RETRY_DELAYS_S = (1.0, 2.0, 4.0, 8.0)
MAX_RETRY_AFTER_S = 120.0
RETRY_STATUSES = (429, 500, 502, 503, 504)
PERMANENT_STATUSES = (404, 410)
SOCKET_TIMEOUT_S, DOWNLOAD_TIMEOUT_S = 30.0, 900.0
CHUNK_BYTES = 2**16


class DownloadError(Exception):
    """A server does not have a resource, or sends an unusable one; the message is the reason.

    `permanent` says that a later request would fail, too.
    """

    def __init__(self, reason: str, permanent: bool = False) -> None:
        super().__init__(reason)
        self.permanent = permanent


class HttpClient:
    """Reads URLs, with at least a fixed interval between two requests.

    Args:
        min_interval_s: Smallest number of seconds between two requests.
        clock: Returns the current time in seconds.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self,
        min_interval_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._min_interval_s, self._clock, self._sleep = min_interval_s, clock, sleep
        self._next_request_s = 0.0

    def get(self, url: str, max_bytes: int) -> bytes:
        """Return the content of an http or https URL.

        Raises:
            DownloadError: If the server rejects the request, keeps failing, or sends more than
                `max_bytes`.
            DataError: If no server answers, so that further requests would fail, too.
        """
        location = _without_query(url)
        reason, is_unreachable = "", False
        for delay_s in (*RETRY_DELAYS_S, None):
            self._wait_for_interval()
            retry_after_s = 0.0
            try:
                return self._read(url, max_bytes)
            except urllib.error.HTTPError as error:
                error.close()
                reason, is_unreachable = f"HTTP {error.code} from {location}", False
                if error.code not in RETRY_STATUSES:
                    raise DownloadError(reason, error.code in PERMANENT_STATUSES) from None
                header = error.headers.get("Retry-After")
                retry_after_s = retry_after_seconds(header, datetime.now(UTC))
            except (OSError, http.client.HTTPException) as error:
                reason = f"{location} does not answer ({_short_reason(error)})"
                is_unreachable = True
            if retry_after_s > MAX_RETRY_AFTER_S:
                raise DataError(
                    f"{location} asks to wait {retry_after_s:.0f} s; run the command again after"
                    " that time"
                )
            if delay_s is not None:
                self._sleep(max(delay_s, retry_after_s))
        if is_unreachable:
            raise DataError(f"{reason}; check the network, and run the command again to resume")
        raise DownloadError(f"{reason}, {len(RETRY_DELAYS_S) + 1} times")

    def _wait_for_interval(self) -> None:
        delay_s = self._next_request_s - self._clock()
        if delay_s > 0:
            self._sleep(delay_s)
        self._next_request_s = max(self._next_request_s, self._clock()) + self._min_interval_s

    def _read(self, url: str, max_bytes: int) -> bytes:
        if urlsplit(url).scheme not in ("http", "https"):
            raise DownloadError(f"{_without_query(url)}: neither http nor https", permanent=True)
        deadline_s = self._clock() + DOWNLOAD_TIMEOUT_S
        request = urllib.request.Request(  # noqa: S310 the scheme was checked
            url, headers={"User-Agent": f"raysearch/{__version__}"}
        )
        with urllib.request.urlopen(request, timeout=SOCKET_TIMEOUT_S) as response:  # noqa: S310
            content_length = response.length
            content = bytearray()
            while chunk := response.read1(CHUNK_BYTES):
                content += chunk
                if len(content) > max_bytes or (content_length or 0) > max_bytes:
                    raise DownloadError(f"larger than {max_bytes / 10**6:,.0f} MB")
                if self._clock() > deadline_s:
                    raise DownloadError(f"takes longer than {DOWNLOAD_TIMEOUT_S:.0f} s to download")
        if content_length is not None and len(content) < content_length:
            raise http.client.IncompleteRead(b"", content_length - len(content))
        return bytes(content)


def _without_query(url: str) -> str:
    """Return the URL without its query, which may contain a key."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _short_reason(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return str(getattr(reason, "strerror", None) or reason or type(error).__name__)


def retry_after_seconds(header: str | None, now: datetime) -> float:
    """Return the seconds of a Retry-After header, a number or a date; 0 if there is none.

    https://www.rfc-editor.org/rfc/rfc9110#name-retry-after
    """
    if header is None:
        return 0.0
    if header.strip().isdecimal():
        return float(header)
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - now).total_seconds())
