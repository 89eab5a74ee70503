"""This node's cached files: in folders that only their owner can open, with checked content."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import stat
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from raysearch.config.json_values import parse_json
from raysearch.errors import DataError

VARIABLE = "RAYSEARCH_CACHE"
# Where torch keeps the code that it compiles.
COMPILED_CODE = "TORCHINDUCTOR_CACHE_DIR"
ADVICE = f"remove it, or set {VARIABLE} to a folder of your own"
PRIVATE = 0o700
BLOCK_BYTES = 16 * 2**20
# Hashing more takes over 5 % of the time in which a worker starts: its processes share the result.
SHARED_CHECK_BYTES = 128 * 2**20
SHARED_CHECK_S = 3600.0
CHECKED_SUFFIX = ".checked"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

FileState = tuple[str, int, int, int]


def cache_folder() -> Path:
    """The folder of a node's cached files: RAYSEARCH_CACHE, or `~/.cache/raysearch`."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "raysearch")


def keep_compiled_code_in_cache() -> None:
    """Let torch keep the code that it compiles in the cache.

    By default that is in the temporary folder, at a path that another account can guess and create
    first, and torch creates that folder when it is imported.
    """
    folder = cache_folder()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if os.access(existing, os.W_OK):
        os.environ.setdefault(COMPILED_CODE, str(folder / "torch"))


def private_folder(folder: Path) -> Path:
    """Create a folder of cached files and its parent, which only this user can open.

    Whoever can write to a folder can replace its files, and the product would use them.

    Args:
        folder: A folder directly in that of the cache.

    Returns:
        `folder`.

    Raises:
        DataError: If the folder or its parent belongs to another user, others can write to it, or
            it cannot be created.
    """
    try:
        for path in (folder.parent, folder):
            path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            status = path.stat()
            if status.st_uid != os.geteuid():
                raise DataError(f"{path}: the cache belongs to another user; {ADVICE}")
            if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise DataError(f"{path}: other users can write to the cache; {ADVICE}")
        if stat.S_IMODE(status.st_mode) != PRIVATE:
            folder.chmod(PRIVATE)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror or error}); free disk space, or set"
            f" {VARIABLE} to another folder"
        ) from None
    return folder


def content_hash(path: Path) -> str:
    """A hash of the content of a file: the SHA-256, in hex, of the SHA-256 of each of its blocks.

    The blocks are hashed on all cores, in the file's own pages of memory.
    """
    with path.open("rb") as file:
        num_bytes = os.fstat(file.fileno()).st_size
        if not num_bytes:
            return hashlib.sha256().hexdigest()
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
            starts = range(0, num_bytes, BLOCK_BYTES)

            def block_hash(start: int) -> bytes:
                with memoryview(content) as view, view[start : start + BLOCK_BYTES] as block:
                    return hashlib.sha256(block).digest()

            with ThreadPoolExecutor(min(len(starts), len(os.sched_getaffinity(0)))) as pool:
                return hashlib.sha256(b"".join(pool.map(block_hash, starts))).hexdigest()


def file_state(path: Path) -> FileState:
    """What changes if a file is replaced or written to: path, inode, size, time of the change."""
    status = path.stat()
    return str(path), status.st_ino, status.st_size, status.st_mtime_ns


def has_content_hash(path: Path, expected: object) -> bool:
    """Whether the content of a cached file has the hash `expected`.

    The processes of a node share the result for a large file, in a file beside it: for an hour,
    until the node starts again, and until the file is written to, which changes its inode, its size
    or one of its times. Nodes that share a cache have a file each.
    """
    status = path.stat()
    if status.st_size < SHARED_CHECK_BYTES:
        return expected == content_hash(path)
    checked = checked_file(path)
    times = [status.st_mtime_ns, status.st_ctime_ns]
    state = [expected, status.st_ino, status.st_size, *times, _boot_id()]
    if _was_checked(checked, state):
        return True
    if expected != content_hash(path):
        return False
    partial = checked.with_name(f".{uuid.uuid4().hex[:8]}-{checked.name}")
    try:
        partial.write_text(json.dumps([time.time(), *state]))
        partial.replace(checked)
        _remove_expired(path)
    except OSError:  # the next process checks it again
        partial.unlink(missing_ok=True)
    return True


def checked_file(path: Path) -> Path:
    """The file in which the processes of this node share that the content of `path` was checked."""
    return path.with_name(f"{path.name}.{_boot_id()}{CHECKED_SUFFIX}")


def _remove_expired(path: Path) -> None:
    """Remove the results for `path` that have expired, such as those of nodes that are gone."""
    for checked in path.parent.iterdir():
        name = checked.name
        if name.startswith(f"{path.name}.") and name.endswith(CHECKED_SUFFIX):
            with suppress(FileNotFoundError):  # another process has removed it
                if time.time() - checked.stat().st_mtime > SHARED_CHECK_S:
                    checked.unlink()


def _was_checked(checked: Path, state: list[object]) -> bool:
    try:
        stored = parse_json(checked.read_bytes())
    except (OSError, ValueError):
        return False
    if not isinstance(stored, list) or stored[1:] != state or not isinstance(stored[0], float):
        return False
    return 0 <= time.time() - stored[0] < SHARED_CHECK_S


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
