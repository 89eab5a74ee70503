"""Reads Parquet files with the checksums of their pages verified."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


def read_parquet(source: str | bytes | IO[bytes], columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file; unlike `pyarrow.parquet.read_table`, without importing pandas.

    Folders of the path are not read as columns either.

    Args:
        source: The path, the open file, or the content of the file.
        columns: The columns to read; None for all.

    Raises:
        pyarrow.ArrowException: If the content is damaged, or a column is missing.
        OSError: If the file cannot be read, or a page of a file does not match its checksum.
    """
    import pyarrow as pa

    if not isinstance(source, bytes):
        return _read(source, columns)
    try:
        return _read(BytesIO(source), columns)
    except OSError as error:  # Arrow raises it for a wrong checksum, too
        raise pa.ArrowInvalid(str(error)) from None


def _read(file: str | IO[bytes], columns: Sequence[str] | None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        missing = set(columns or ()) - set(parquet.schema_arrow.names)
        if missing:
            raise pa.ArrowInvalid(f"columns {', '.join(sorted(missing))} are missing")
        return parquet.read(columns=None if columns is None else list(columns))


def numeric_array(column: pa.ChunkedArray) -> NDArray[np.generic]:
    """The values of a numeric column without nulls; a view where Arrow stores one chunk.

    Unlike `pyarrow.ChunkedArray.to_numpy`, it does not import pandas.

    Returns:
        The values, shape (rows,).

    Raises:
        TypeError: If the column is not numeric, or a value is null.
    """
    import numpy as np

    return np.from_dlpack(column.combine_chunks())


def valid_rows(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which rows of `column` are not null, shape (rows,)."""
    import numpy as np
    import pyarrow as pa

    return np.asarray(numeric_array(column.is_valid().cast(pa.uint8())), np.bool_)


def filter_rows(table: pa.Table, mask: NDArray[np.bool_]) -> pa.Table:
    """The rows of `table` where `mask`, shape (rows,), is true; without importing pandas."""
    import numpy as np
    import pyarrow as pa

    bits = pa.py_buffer(np.packbits(mask, bitorder="little").tobytes())
    return table.filter(pa.Array.from_buffers(pa.bool_(), len(mask), [None, bits]))
