"""The HTTP client limits its rate, retries after failures, and limits what it reads."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from raysearch.data.harvest.http_client import DownloadError, HttpClient, retry_after_seconds
from support.harvest_services import API_KEY, FakeNcbi, serve


class FakeClock:
    """A clock that only `sleep` advances."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.sleeps_s: list[float] = []

    def time(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.sleeps_s.append(seconds)
        self.now_s += seconds


@pytest.fixture
def server() -> Iterator[FakeNcbi]:
    """A server with one paper."""
    ncbi = FakeNcbi()
    ncbi.pdfs = {"11": b"%PDF-" + bytes(5_000)}
    with serve(ncbi):
        yield ncbi


def pdf_url(server: FakeNcbi) -> str:
    return f"{server.url}/PMC911.10/PMC911.10.pdf"


def http_client(clock: FakeClock, min_interval_s: float = 0.0) -> HttpClient:
    return HttpClient(min_interval_s, clock.time, clock.sleep)


def test_requests_keep_the_interval(server: FakeNcbi) -> None:
    clock = FakeClock()
    client = http_client(clock, min_interval_s=1 / 3)
    for _ in range(3):
        client.get(pdf_url(server), 10_000)
    assert clock.sleeps_s == pytest.approx([1 / 3, 1 / 3])
    clock.now_s += 10.0
    client.get(pdf_url(server), 10_000)
    assert len(clock.sleeps_s) == 2


def test_delays_between_retries_increase(server: FakeNcbi) -> None:
    clock = FakeClock()
    server.failures = [(429, None), (503, None), (500, "7"), (502, "soon")]
    assert http_client(clock).get(pdf_url(server), 10_000) == server.pdfs["11"]
    assert clock.sleeps_s == [1.0, 2.0, 7.0, 8.0]
    server.failures = [(503, None)] * 5
    with pytest.raises(DownloadError, match=r"HTTP 503 from .*pdf, 5 times") as raised:
        http_client(clock).get(pdf_url(server), 10_000)
    assert not raised.value.permanent
    assert server.failures == []


def test_a_missing_resource_is_requested_once(server: FakeNcbi) -> None:
    clock = FakeClock()
    with pytest.raises(DownloadError, match="HTTP 404") as raised:
        http_client(clock).get(f"{server.url}/nothing?api_key={API_KEY}", 10_000)
    assert raised.value.permanent
    assert API_KEY not in str(raised.value)
    assert len(server.requests) == 1
    assert clock.sleeps_s == []


def test_an_incomplete_download_is_repeated(server: FakeNcbi) -> None:
    server.num_missing_bytes = 1_000
    assert http_client(FakeClock()).get(pdf_url(server), 10_000) == server.pdfs["11"]
    assert len(server.requests) == 2


def test_a_download_above_the_size_limit_fails(server: FakeNcbi) -> None:
    with pytest.raises(DownloadError, match="larger than"):
        http_client(FakeClock()).get(pdf_url(server), 5_004)
    assert len(http_client(FakeClock()).get(pdf_url(server), 5_005)) == 5_005


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/a.pdf"])
def test_only_http_urls_are_read(url: str) -> None:
    with pytest.raises(DownloadError, match="neither http nor https"):
        http_client(FakeClock()).get(url, 10_000)


def test_a_retry_after_header_is_seconds_or_a_date() -> None:
    now = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
    assert retry_after_seconds("20", now) == 20.0
    assert retry_after_seconds("Fri, 20 Nov 2026 12:01:30 GMT", now) == 90.0
    assert retry_after_seconds("Fri, 20 Nov 2026 11:00:00 GMT", now) == 0.0
    assert retry_after_seconds("soon", now) == retry_after_seconds(None, now) == 0.0
