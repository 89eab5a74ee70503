"""Arrays that an unfinished command has computed, from which the same command continues."""

from __future__ import annotations

import hashlib
import io
import logging
import shutil
import time
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysearch.data.cache_folder import cache_folder, private_folder
from raysearch.data.file_access import write_file
from raysearch.data.files import open_regular
from raysearch.errors import DataError

log = logging.getLogger(__name__)
# The version of what is computed; it increases whenever a result changes.
FORMAT = 1
PREFIX = "unfinished-"
DIGEST_BYTES = 32
# The arrays of commands that nobody continued are removed after so many seconds.
MAX_AGE_S = 14 * 86400.0
Arrays = Mapping[str, NDArray[Any]]


class ArrayCache:
    """Arrays by name, in the cache of this machine.

    A cache that cannot be written to only means that an interrupted command begins again.

    Args:
        kind: What the arrays are, as a part of a file name.
        *identity: The hashes and names of what they are computed from.
    """

    def __init__(self, kind: str, *identity: str) -> None:
        digest = hashlib.sha256("\n".join((str(FORMAT), *identity)).encode()).hexdigest()
        self.folder = cache_folder() / f"{PREFIX}{kind}-{digest[:16]}"
        self._is_writable = True

    def read(self, name: str) -> Arrays | None:
        """Return what `write` stored.

        None if there is nothing, the file is damaged, or another account can write to the cache.
        """
        try:
            if not self.folder.exists():
                return None
            private_folder(self.folder)
            with open_regular(self.folder / name) as file:
                content = file.read()
        except (OSError, DataError):
            return None
        digest, stored = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        if hashlib.sha256(stored).digest() != digest:
            return None
        try:
            with np.load(io.BytesIO(stored), allow_pickle=False) as arrays:
                return dict(arrays)
        except (ValueError, OSError, zipfile.BadZipFile):
            return None

    def write(self, name: str, arrays: Arrays) -> None:
        """Store arrays in the file `name`, with a hash over them."""
        if not self._is_writable:
            return
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        stored = buffer.getvalue()
        try:
            if not self.folder.exists():
                _remove_old()
            private_folder(self.folder)
            write_file(self.folder / name, hashlib.sha256(stored).digest() + stored)
        except (OSError, DataError) as error:
            self._is_writable = False
            log.warning("%s: an interrupted command begins again (%s)", self.folder, error)

    def remove(self) -> None:
        """Remove everything that is stored, because the result is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _remove_old() -> None:
    with suppress(OSError):
        for folder in cache_folder().glob(f"{PREFIX}*"):
            if time.time() - folder.stat().st_mtime > MAX_AGE_S:
                shutil.rmtree(folder, ignore_errors=True)
