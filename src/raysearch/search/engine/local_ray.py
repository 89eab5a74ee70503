"""The private surroundings of a Ray that runs on this machine alone.

By default, Ray writes a token that other accounts can read into `~/.ray/auth_token`, opens its
session folder to everybody, and listens on the address of the network.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

from raysearch.data.disk_errors import free_bytes
from raysearch.data.file_access import restrict
from raysearch.data.scratch_folder import scratch_folder
from raysearch.errors import StudyError

PREFIX = "rs-ray-"
# The path of a socket has at most 107 bytes, of which Ray adds 63 to its folder: the name of the
# session, with the time and the process, and `/sockets/plasma_store`.
MAX_BASE_LENGTH = 107 - 63 - len(f"/{PREFIX}12345678/r/")
# Ray's logs and sockets of a launch.
MIN_FREE_BYTES = 16 * 2**20
# On this setting, Ray uses the loopback address, as it does on macOS.
CLUSTERS_ENABLED = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
TOKEN_FILE = Path(".ray") / "auth_token"


@contextmanager
def private_ray() -> Iterator[Path]:
    """Prepare this process for a local Ray that no other account can use; undo it at the end.

    Ray gets a token for this run only, which no file contains, and listens on the loopback address
    alone.

    Yields:
        Ray's folder for temporary files, inside a folder that only this account can open.

    Raises:
        StudyError: If the disk of that folder is full.
    """
    settings = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        CLUSTERS_ENABLED: "0",
    }
    _check_free_space(_base_folder())
    # Ray opens its own folder to everybody, so that folder is inside one that only we can open.
    with scratch_folder(PREFIX, _base_folder()) as folder, ray_environment(settings):
        ray_constants.ENABLE_RAY_CLUSTER, previous = False, ray_constants.ENABLE_RAY_CLUSTER
        try:
            yield folder / "r"
        finally:
            ray_constants.ENABLE_RAY_CLUSTER = previous


def restrict_token_file() -> None:
    """Close this account's token file to others: Ray creates it with mode 0644."""
    restrict(Path.home() / TOKEN_FILE, private=True)


@contextmanager
def ray_environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables that Ray reads, inside the `with` block."""
    previous = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    _reload_settings()
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        _reload_settings()


def _reload_settings() -> None:
    """Let Ray read its environment variables again: it did so when it was imported."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def _check_free_space(base: Path) -> None:
    """Raise StudyError if Ray's folder would be on a full disk: Ray would wait for ever."""
    free = free_bytes(base / PREFIX)
    if free < MIN_FREE_BYTES and base.is_dir():
        raise StudyError(
            f"{base}: {free:,} bytes are free, and Ray needs {MIN_FREE_BYTES:,} for its files; free"
            " some space, or set RAY_TMPDIR to a folder on another disk"
        )


def _base_folder() -> Path:
    base = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    return base if len(os.fsencode(base)) <= MAX_BASE_LENGTH else Path("/tmp")  # noqa: S108
