"""Parses addresses of folders: local paths, and file systems that are explicitly allowed.

A search space, a study or a model is often a file that somebody else wrote. An address in it must
not make this process open a connection that its user does not expect, with the user's credentials.
"""

from __future__ import annotations

import os
import re

from raysearch.config.names import reject_login
from raysearch.errors import DataError

LOCAL_SCHEME = "file"
DEFAULT_SCHEMES = (LOCAL_SCHEME, "s3")
# The user's list of further schemes, separated by commas.
SCHEMES_VARIABLE = "RAYSEARCH_SCHEMES"
# Whether data is read at the remote addresses that a study of another account names.
ALLOW_VARIABLE = "RAYSEARCH_ALLOW"
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# MLflow also takes addresses without `//`; this scheme is then that of the tracking server.
ARTIFACT_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(?!//)")
SERVER_SCHEME = "mlflow-artifacts"


def allowed_schemes() -> tuple[str, ...]:
    """Return the schemes of the file systems that may be used."""
    further = os.environ.get(SCHEMES_VARIABLE, "").split(",")
    return tuple(dict.fromkeys([*DEFAULT_SCHEMES, *filter(None, map(str.strip, further))]))


def address_scheme(address: str) -> str:
    """Return the scheme of `address`; `file` for a local path.

    A text without `://`, or one that begins with `/`, is a path, whatever colons are in it.

    Raises:
        DataError: If the address contains a password or a NUL character, chains file systems
            (`zip://...::s3://...`), or has a scheme that is not allowed.
    """
    if "\0" in address:
        raise DataError(f"{address!r}: contains a NUL character; give a path or an address")
    if "://" not in address or address.startswith("/"):
        return LOCAL_SCHEME
    reject_login(address)
    match = SCHEME.match(address)
    if match is not None and match[1] == LOCAL_SCHEME:
        return LOCAL_SCHEME
    if "::" in address:
        raise DataError(
            f"{address}: a chain of file systems (`::`) is not allowed; give a local path or"
            " s3://bucket/prefix"
        )
    if match is None:
        return LOCAL_SCHEME
    if match[1] not in allowed_schemes():
        raise DataError(
            f"{address}: file system {match[1]} is not allowed, only"
            f" {', '.join(allowed_schemes())}; to add it, set {SCHEMES_VARIABLE}={match[1]}"
        )
    return match[1]


def check_artifact_address(address: str) -> None:
    """Check an address at which MLflow would read files.

    Raises:
        DataError: If its scheme is not allowed; the tracking server's own artifacts are.
    """
    match = ARTIFACT_SCHEME.match(address)
    if match is not None and match[1] == SERVER_SCHEME:
        return
    if match is not None and match[1] not in allowed_schemes():
        raise DataError(
            f"{address}: file system {match[1]} is not allowed, only {', '.join(allowed_schemes())}"
        )
    address_scheme(address)


def is_remote(address: str) -> bool:
    """Return whether `address` is not a local path; an address that is not allowed is remote."""
    try:
        return address_scheme(address) != LOCAL_SCHEME
    except DataError:
        return True


def foreign_addresses_allowed() -> bool:
    """Return whether the user allows the remote addresses of studies of other accounts."""
    return os.environ.get(ALLOW_VARIABLE, "") not in ("", "0")


def reject_foreign_address(address: str, origin: str) -> None:
    """Raise DataError for a remote `address` that `origin` names, unless the user allows it.

    Args:
        address: The address.
        origin: Who names it, such as `a study of another account`.
    """
    if is_remote(address) and not foreign_addresses_allowed():
        raise DataError(
            f"{address}: {origin} names this address; check it, then allow it with `raysearch"
            " --allow COMMAND`"
        )
