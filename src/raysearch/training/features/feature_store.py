"""Stores features in the cache of a node, so that each is computed once.

The features of some patches are a Parquet file; its name has the SHA-256 of its content. The
processes of a node compute such chunks side by side, and continue where a killed process ended. The
nodes of a cluster exchange theirs. Then the chunks become one file, which all trials of all studies
on the node memory-map.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from raysearch.config.json_values import dump_checked, parse_checked
from raysearch.data.cache_folder import (
    VARIABLE,
    cache_folder,
    content_hash,
    file_state,
    has_content_hash,
    private_folder,
)
from raysearch.data.disk_errors import disk_errors
from raysearch.errors import DataError
from raysearch.training.features.extraction import Extractor, PatchFeatures, Values, chunks
from raysearch.training.features.feature_files import decode_features, encode_features
from raysearch.training.features.feature_request import FeatureRequest
from raysearch.training.features.shared_chunks import SharedChunks

log = logging.getLogger(__name__)
FOLDER = "features"
# The rows of a chunk: so many features, over all views, or one row.
CHUNK_VALUES = 2**21
MAX_CHUNK_ROWS = 256
# More digits are no number of rows.
MAX_DIGITS = 9
POLL_S = 0.2
# Damaged features are computed again, at most so often in all.
MAX_ATTEMPTS = 3
# What reading the file that is memory-mapped raises; numpy parses its header as Python.
DAMAGED = (ValueError, EOFError, KeyError, TypeError, SyntaxError)
OnRows = Callable[[int, int], None]


def _no_rows(_num_done: int, _num_rows: int) -> None:
    pass


def load_features(
    request: FeatureRequest, on_rows: OnRows = _no_rows, shared: SharedChunks | None = None
) -> PatchFeatures:
    """Return the features of the patches of a request, computed if they are not stored.

    Args:
        request: The patches and the network.
        on_rows: Called after each chunk with the number of patches so far, and of all patches.
        shared: The chunks that other nodes compute; None if this node computes all.

    Returns:
        The features, memory-mapped if they are stored.

    Raises:
        DataError: If the weights cannot be read, or the features cannot be stored.
        SpaceError: If the weights do not match the architecture, or the preprocessing is fitted to
            each fold.
    """
    request.check()
    extractor = Extractor(request)
    if not request.is_storable:
        return extractor.compute(0, len(request.pixels))
    try:
        return _Entry.of(request, shared).load(extractor, on_rows)
    except OSError as error:
        raise DataError(
            f"{cache_folder() / FOLDER}: cannot be written ({error.strerror or error}); free disk"
            f" space, or set {VARIABLE} to another folder"
        ) from None


def are_stored(request: FeatureRequest) -> bool:
    """Return whether the features of a request are stored completely, without a check of them."""
    return request.is_storable and _Entry.of(request).is_complete()


# The memory maps of this process, by the state of their files: their content is checked once.
_MAPPED: dict[object, PatchFeatures] = {}


@dataclass(frozen=True)
class _Description:
    """What is stored beside the features.

    Attributes:
        sha256: The hash of the content of their file.
        key: The key of the request.
        view_ms: As of `PatchFeatures`, the median over the chunks.
    """

    sha256: str
    key: str
    view_ms: float


DESCRIPTION = TypeAdapter(_Description)


class _Entry:
    """The stored features of a request.

    Args:
        folder: The folder of the stored features.
        key: The key of the request.
        num_rows: The number of patches.
        shared: The chunks of other nodes.
    """

    def __init__(
        self, folder: Path, key: str, num_rows: int, shared: SharedChunks | None = None
    ) -> None:
        self._folder, self._key, self._num_rows = folder, key, num_rows
        self._shared = shared
        self.features = folder / f"{key[:32]}.npy"
        self.description = folder / f"{key[:32]}.json"

    @classmethod
    def of(cls, request: FeatureRequest, shared: SharedChunks | None = None) -> _Entry:
        """The entry of a request in the cache of this node."""
        folder = private_folder(cache_folder() / FOLDER)
        return cls(folder, request.key, len(request.pixels), shared)

    def load(self, extractor: Extractor, on_rows: OnRows) -> PatchFeatures:
        """Memory-map the features; compute what is missing or damaged first.

        Raises:
            DataError: If they are damaged again.
        """
        for _attempt in range(MAX_ATTEMPTS):
            if not self.is_complete():
                self._compute(extractor, on_rows)
            with FileLock(self.features.with_suffix(".lock")):
                try:
                    if not self.is_complete():
                        self._assemble()
                    return self._map()
                except DAMAGED as error:
                    log.warning("%s: damaged (%s); computed again", self.features, error)
                    self.description.unlink(missing_ok=True)
                    self.features.unlink(missing_ok=True)
        raise DataError(f"{self.features}: damaged again and again; check the disk")

    def is_complete(self) -> bool:
        """Return whether all features are stored."""
        return self.features.is_file() and self.description.is_file()

    def _map(self) -> PatchFeatures:
        state = file_state(self.features)
        mapped = _MAPPED.get(state)
        if mapped is not None:
            return mapped
        description = DESCRIPTION.validate_python(parse_checked(self.description.read_bytes()))
        is_other = description.key != self._key
        if is_other or not has_content_hash(self.features, description.sha256):
            raise ValueError(self.features.name)
        # Copy-on-write: nothing writes to it, but torch needs a writable array.
        values: Values = np.load(self.features, mmap_mode="c", allow_pickle=False)
        if values.dtype != np.float16 or values.ndim != 3 or len(values) != self._num_rows:
            raise ValueError("another shape")
        _MAPPED[state] = PatchFeatures(values, description.view_ms)
        self._remove_chunks()
        return _MAPPED[state]

    def _compute(self, extractor: Extractor, on_rows: OnRows) -> None:
        """Compute the chunks that are missing, beside other processes that do the same.

        A chunk that another process computes is waited for at the end. If that process is killed,
        its lock is free, and this process computes the chunk.
        """
        chunk_rows = self._chunk_rows(extractor)
        waiting = list(chunks(self._num_rows, chunk_rows))
        if self._shared is not None:
            waiting = self._shared.order(waiting)
        while waiting and not self.is_complete():
            left = []
            for start, stop in waiting:
                if self._chunk(start) is None and not self._try_chunk(extractor, start, stop):
                    left.append((start, stop))
                else:
                    on_rows(self._num_stored(chunk_rows), self._num_rows)
            if left and len(left) == len(waiting):
                time.sleep(POLL_S)
            waiting = left
        on_rows(self._num_rows, self._num_rows)

    def _num_stored(self, chunk_rows: int) -> int:
        """The rows of the chunks that are stored, whichever process has computed them."""
        stem = f"{self._key[:32]}-"
        names = [path.name for path in self._folder.glob(f"{stem}*.parquet")]
        if self._shared is not None:
            names += self._shared.names(stem)
        starts = {name.removeprefix(stem).partition("-")[0] for name in names}
        return min(len(starts) * chunk_rows, self._num_rows)

    def _chunk_rows(self, extractor: Extractor) -> int:
        """The rows of a chunk: as in the stored chunks, or chosen by the size of a row."""
        path = self._folder / f"{self._key[:32]}.rows"
        with FileLock(self._lock("rows")):
            if not path.is_file():
                row = extractor.compute(0, 1).values
                num_rows = min(MAX_CHUNK_ROWS, max(1, CHUNK_VALUES // row.size))
                self._write(path, str(num_rows).encode())
            text = path.read_text(encoding="ascii", errors="replace")
        if not text.isdecimal() or not 0 < int(text[:MAX_DIGITS]) <= MAX_CHUNK_ROWS:
            raise DataError(f"{path}: damaged; remove it, and start again")
        return int(text)

    def _try_chunk(self, extractor: Extractor, start: int, stop: int) -> bool:
        """Fetch or compute a chunk, unless another process does; return whether it is stored."""
        try:
            with FileLock(self._lock(f"{start:09d}"), blocking=False):
                if self._chunk(start) is None and not self.is_complete():
                    name, content = self._fetched_or_computed(extractor, start, stop)
                    self._write(self._folder / name, content)
                return True
        except Timeout:
            return False

    def _fetched_or_computed(
        self, extractor: Extractor, start: int, stop: int
    ) -> tuple[str, bytes]:
        """Return name and content of a chunk, which is shared if this process computes it."""
        stem = self._chunk_stem(start)
        shared_stem = f"{stem}{stop:09d}-"
        if self._shared is not None:
            fetched = self._shared.read(shared_stem)
            if fetched is not None and _has_rows(fetched[1], stop - start):
                return stem + fetched[0].removeprefix(shared_stem), fetched[1]
            if fetched is not None:
                self._shared.remove(fetched[0])
        content = encode_features(extractor.compute(start, stop))
        name = f"{hashlib.sha256(content).hexdigest()}.parquet"
        if self._shared is not None:
            self._shared.write(shared_stem + name, content)
        return stem + name, content

    def _chunk_stem(self, start: int) -> str:
        return f"{self._key[:32]}-{start:09d}-"

    def _chunk(self, start: int) -> Path | None:
        """The file of the chunk that begins with row `start`; None if there is none."""
        return next(iter(self._folder.glob(f"{self._chunk_stem(start)}*.parquet")), None)

    def _lock(self, name: str) -> Path:
        return self._folder / f"{self._key[:32]}-{name}.lock"

    def _write(self, path: Path, content: bytes) -> None:
        partial = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
        try:
            with disk_errors(partial, len(content)):
                partial.write_bytes(content)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def _assemble(self) -> None:
        """Join the chunks to the file that is memory-mapped, and remove them."""
        for path in self._folder.glob(f".*-{self.features.name}"):  # of a killed process
            path.unlink(missing_ok=True)
        partial = self.features.with_name(f".{uuid.uuid4().hex[:8]}-{self.features.name}")
        flat, num_done = None, 0
        view_ms = []
        try:
            for path in sorted(self._folder.glob(f"{self._key[:32]}-*.parquet")):
                chunk = self._read_chunk(path)
                view_ms.append(chunk.view_ms)
                if flat is None:
                    shape = (self._num_rows, *chunk.values.shape[1:])
                    flat = np.lib.format.open_memmap(
                        partial, mode="w+", dtype=np.float16, shape=shape
                    )
                    _allocate(partial)
                flat[num_done : num_done + len(chunk.values)] = chunk.values
                num_done += len(chunk.values)
            if flat is None or num_done != self._num_rows:
                raise ValueError(f"{num_done} of {self._num_rows} rows")
            flat.flush()
            del flat
            description = _Description(content_hash(partial), self._key, median(view_ms))
            self._write(self.description, dump_checked(asdict(description)))
            partial.replace(self.features)
        finally:
            partial.unlink(missing_ok=True)

    def _read_chunk(self, path: Path) -> PatchFeatures:
        """Read a chunk; if it is damaged, remove it, so that the next process computes it."""
        content = path.read_bytes()
        try:
            if hashlib.sha256(content).hexdigest() != path.stem.rpartition("-")[2]:
                raise ValueError("another hash")
            return decode_features(content)
        except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
            path.unlink(missing_ok=True)
            raise ValueError(f"{path.name}: {error}") from None

    def _remove_chunks(self) -> None:
        """Remove the chunks, once the file that is memory-mapped has all of them."""
        for pattern in (".parquet", ".lock"):
            for path in self._folder.glob(f"{self._key[:32]}-*{pattern}"):
                path.unlink(missing_ok=True)
        (self._folder / f"{self._key[:32]}.rows").unlink(missing_ok=True)


def _has_rows(content: bytes, num_rows: int) -> bool:
    """Return whether a chunk can be decoded, and has the features of so many patches."""
    try:
        return len(decode_features(content).values) == num_rows
    except (KeyError, TypeError, ValueError, pa.ArrowException):
        return False


def _allocate(path: Path) -> None:
    """Allocate the disk space of a file: a memory map of a full disk kills the process."""
    num_bytes = path.stat().st_size
    with disk_errors(path, num_bytes), path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, num_bytes)
