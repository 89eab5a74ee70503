"""Downloads pretrained weights once per node, and checks their hash whenever they are used.

A file that is in the cache is used without a network connection.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from torch.hub import download_url_to_file

from raysearch.data.cache_folder import (
    FileState,
    cache_folder,
    content_hash,
    file_state,
    private_folder,
)
from raysearch.errors import DataError, first_line

log = logging.getLogger(__name__)
# torchvision's file names end with a prefix of the SHA-256 of the file.
HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+")
# The file beside downloaded weights of other names with the hash of their content.
HASH_SUFFIX = ".sha256"
# The hashes of files that this process has read.
_HASHES: dict[FileState, str] = {}
# The files of weights whose hash this process has checked.
_CHECKED: set[FileState] = set()


def weights_folder() -> Path:
    """Return the folder of this node's downloaded weights."""
    return cache_folder() / "weights"


def private_weights_folder() -> Path:
    """Return the folder of downloaded weights, created; DataError if others can write to it."""
    return private_folder(weights_folder())


def download(url: str, path: Path) -> Path:
    """Download `url` to `path` unless the file exists; concurrent callers download it once."""

    def fetch() -> None:
        # torch verifies the hash in the file name, and moves the complete file to its place.
        download_url_to_file(url, str(path), _hash_prefix(path.name), progress=False)

    return download_once(path, url, fetch)


def download_once(path: Path, source: str, fetch: Callable[[], None]) -> Path:
    """Call `fetch`, which writes `path`, unless the file exists; check the file that exists.

    Raises:
        DataError: If `fetch` fails, which names the `source`; if another user can write to the
            folder, or the file is not the one that was downloaded.
    """
    private_folder(path.parent)
    with FileLock(path.with_name(f"{path.name}.lock")):
        if not path.is_file():
            for abandoned in path.parent.glob(f"{path.name}.*.partial"):  # torch names it so
                abandoned.unlink(missing_ok=True)
            try:
                fetch()
            except Exception as error:  # torch, timm, the hub and the network have their own
                raise DataError(
                    f"weights imagenet: {source} cannot be fetched ({first_line(error, 100)});"
                    f" fetch it elsewhere and put it at {path} on every node, or choose"
                    " `weights: none`"
                ) from None
            if _hash_prefix(path.name) is None:
                hash_file(path).write_text(content_hash(path))
        check_content(path)
    return path


def is_trusted(folder: Path) -> bool:
    """Return whether no other account but root can replace the files of another program's cache.

    The hash in the name of a file is short, and a stranger could choose the content for it.
    """
    try:
        status = folder.stat()
    except OSError:
        return False
    is_own = status.st_uid in (0, os.geteuid())
    if not is_own or status.st_mode & stat.S_IWOTH:
        log.warning("%s is not searched for weights: other users can write to it", folder)
        return False
    return True


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, computed once in this process."""
    state = file_state(path)
    if state not in _HASHES:
        with path.open("rb") as file:
            _HASHES[state] = hashlib.file_digest(file, "sha256").hexdigest()
    return _HASHES[state]


def check_content(path: Path) -> None:
    """Check a file against its hash, once in this process.

    The hash is in its name, or in a file beside it that a download has left. A file that the user
    has put there under another name has none.

    Raises:
        DataError: If the content has another hash.
    """
    state = file_state(path)
    if state in _CHECKED:
        return
    prefix = _hash_prefix(path.name)
    if prefix is not None:
        is_right = sha256(path).startswith(prefix)
    elif hash_file(path).is_file():
        is_right = hash_file(path).read_bytes() == content_hash(path).encode()
    else:
        return
    if not is_right:
        raise DataError(
            f"weights {path}: its content does not have the hash that it was downloaded with;"
            " remove it, and start again"
        )
    _CHECKED.add(state)


def hash_file(path: Path) -> Path:
    """Return the file with the hash of downloaded weights at `path`."""
    return path.with_name(f"{path.name}{HASH_SUFFIX}")


def _hash_prefix(name: str) -> str | None:
    """Return the SHA-256 prefix at the end of a file name, as in torchvision's file names."""
    match = HASH_IN_NAME.search(name)
    return match[1] if match else None
