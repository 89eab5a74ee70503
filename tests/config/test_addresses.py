"""An address is a local path, or names a file system that is explicitly allowed."""

import pytest

from raysearch.config.addresses import (
    DEFAULT_SCHEMES,
    LOCAL_SCHEME,
    address_scheme,
    allowed_schemes,
    is_remote,
    reject_foreign_address,
)
from raysearch.errors import DataError

CHAINS = (
    "simplecache::s3://bucket/prefix",
    "zip://inner::https://host/archive.zip",
    "s3://bucket/prefix::file:///etc",
)
SCHEMES = ("http://host/x", "https://host/x", "gs://b/x", "ftp://h/x", "python://os", "S3://b/x")


@pytest.fixture(autouse=True)
def _only_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYSEARCH_SCHEMES", raising=False)
    monkeypatch.delenv("RAYSEARCH_ALLOW", raising=False)


@pytest.mark.parametrize(
    "path",
    ["data", "a::b", "/data/a::b", "/data/s3://x", "file:x", "x:y", "~/x", "C:\\x", "a b", "ä"],
)
def test_a_text_without_a_scheme_is_a_path(path: str) -> None:
    assert address_scheme(path) == "file"
    assert not is_remote(path)


def test_the_default_schemes_are_files_and_s3() -> None:
    assert allowed_schemes() == DEFAULT_SCHEMES == ("file", "s3")
    assert address_scheme("file:///data/a::b") == "file"
    assert address_scheme("s3://bucket/prefix") == "s3"
    assert is_remote("s3://bucket/prefix")


@pytest.mark.parametrize("address", [*CHAINS, *SCHEMES, "a\0b", "s3://key:word@bucket/x"])
def test_other_addresses_are_rejected_in_one_line(address: str) -> None:
    with pytest.raises(DataError) as rejected:
        address_scheme(address)
    assert "\n" not in str(rejected.value)
    assert ":word@" not in str(rejected.value)
    assert is_remote(address)


@pytest.mark.parametrize("address", CHAINS)
def test_a_chain_is_named(address: str) -> None:
    with pytest.raises(DataError, match="a chain of file systems"):
        address_scheme(address)


def test_the_message_says_how_to_allow_a_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError) as rejected:
        address_scheme("gs://bucket/x")
    assert str(rejected.value) == (
        "gs://bucket/x: file system gs is not allowed, only file, s3; to add it, set"
        " RAYSEARCH_SCHEMES=gs"
    )
    monkeypatch.setenv("RAYSEARCH_SCHEMES", "http, gs")
    assert address_scheme("gs://bucket/x") == "gs"
    assert address_scheme("http://host/x") == "http"
    with pytest.raises(DataError, match="chain"):
        address_scheme("zip://a::gs://bucket/x")


def test_a_remote_address_of_a_foreign_file_needs_permission(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reject_foreign_address("/data/shards", "a study of another account")
    for address in ("s3://bucket/shards", "http://host/x"):
        with pytest.raises(DataError, match="a study of another account names this address"):
            reject_foreign_address(address, "a study of another account")
    monkeypatch.setenv("RAYSEARCH_ALLOW", "1")
    reject_foreign_address("s3://bucket/shards", "a study of another account")


def test_a_local_path_may_look_like_a_setting() -> None:
    for path in ("/data/token=abc/x", "data/sig=1", "shards/password=none"):
        assert address_scheme(path) == LOCAL_SCHEME
    with pytest.raises(DataError, match="contains a password"):
        address_scheme("s3://key:secret@bucket/x")
