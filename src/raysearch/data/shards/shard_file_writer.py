"""Writes the Parquet file of a shard, and computes its hash on the way."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import pyarrow as pa
import pyarrow.parquet as pq

from raysearch.data.shards.shard_manifest import Shard

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class ShardFile:
    """A Parquet file that is being written."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file = _HashedFile(path)
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self._file, "w"),
            schema,
            compression="none",
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        )
        self.num_groups = self._num_rows = 0

    def write(self, table: pa.Table) -> None:
        """Write `table` as one row group."""
        self._writer.write_table(table, row_group_size=table.num_rows)
        self.num_groups += 1
        self._num_rows += table.num_rows

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._file.closed:
            self._writer.close()
            self._file.close()

    def close(self) -> Shard:
        """Close the file and return its entry of the manifest."""
        self._writer.close()
        self._file.close()
        path = self._file.path
        return Shard(path.name, self._num_rows, path.stat().st_size, self._file.hash)


class _HashedFile(io.BufferedWriter):
    """A new file that computes its SHA-256 while it is written from start to end."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "x"))
        self.path = path
        self._sha256 = hashlib.sha256()

    @property
    def hash(self) -> str:
        """The SHA-256, in hex, of what was written."""
        return self._sha256.hexdigest()

    def write(self, content: ReadableBuffer, /) -> int:
        self._sha256.update(content)
        return super().write(content)
