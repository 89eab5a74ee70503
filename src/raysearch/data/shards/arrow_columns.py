"""Converts the rows of shards to Arrow, from buffers: `pa.array` of a list imports pandas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from raysearch.config.names import LABEL
from raysearch.data.shards.shard_files import DOWNSAMPLE, MPP, SCANNER, TISSUE
from raysearch.data.shards.shard_manifest import label_column
from raysearch.data.sources.listing import Item


def row_table(
    items: Sequence[Item],
    pixels: pa.Array | pa.ChunkedArray,
    hashes: bytes | bytearray,
    resize_modes: Sequence[str],
    tasks: Sequence[str],
    *,
    has_tiles: bool = False,
) -> pa.Table:
    """Convert rows to a table with the columns of a shard.

    Args:
        items: What the source says about each row.
        pixels: The pixels of each row.
        hashes: The SHA-256 of these, one after another.
        resize_modes: How each row got its size.
        tasks: The names of the additional tasks.
        has_tiles: Whether the rows are tiles of slides, with the columns of tiles.
    """
    columns = {
        "pixels": pixels,
        LABEL: to_integers([item.label for item in items], np.int16),
        "patient": to_strings([item.patient for item in items]),
        "slide": to_strings([item.slide for item in items]),
        "x": to_integers([item.x for item in items], np.int32),
        "y": to_integers([item.y for item in items], np.int32),
        "site": to_strings([item.site for item in items]),
        "magnification": to_integers([item.magnification for item in items], np.int32),
        "split": to_strings([item.split for item in items]),
        "source": to_strings([item.file for item in items]),
        "resize_mode": to_strings(resize_modes),
        "sha256": to_binary(memoryview(hashes), len(items)),
    }
    for number, task in enumerate(tasks):
        labels = [item.task_labels[number] for item in items]
        columns[label_column(task)] = to_integers(labels, np.int16)
    if has_tiles:
        columns[MPP] = to_numbers([item.mpp for item in items])
        columns[DOWNSAMPLE] = to_numbers([item.downsample for item in items])
        columns[TISSUE] = to_numbers([item.tissue for item in items])
        columns[SCANNER] = to_strings([item.scanner for item in items])
    return pa.Table.from_arrays(list(columns.values()), list(columns))


def to_binary(content: memoryview, count: int) -> pa.Array:
    """Convert `count` values of equal length to Arrow, without copying them."""
    kind = pa.binary(len(content) // count)
    return pa.FixedSizeBinaryArray.from_buffers(kind, count, [None, pa.py_buffer(content)])


def to_integers(values: Sequence[int | None], kind: type[np.int16] | type[np.int32]) -> pa.Array:
    """Convert integers, of which None is unknown, to Arrow."""
    is_valid = np.array([value is not None for value in values])
    numbers = np.array([value or 0 for value in values], kind)
    validity_bits = (
        None if is_valid.all() else pa.py_buffer(np.packbits(is_valid, bitorder="little").tobytes())
    )
    arrow_kind = pa.int16() if kind is np.int16 else pa.int32()
    buffers = [validity_bits, pa.py_buffer(numbers.tobytes())]
    return pa.Array.from_buffers(arrow_kind, len(values), buffers)


def to_numbers(values: Sequence[float | None]) -> pa.Array:
    """Convert numbers, none of which is unknown, to Arrow."""
    numbers = np.array(values, np.float64)
    buffers = [None, pa.py_buffer(numbers.tobytes())]
    return pa.Array.from_buffers(pa.float64(), len(values), buffers)


def to_strings(values: Sequence[str]) -> pa.Array:
    """Convert texts to Arrow."""
    first, count = values[0], len(values)
    if values.count(first) == count:  # such as the site: equal in all rows of most sources
        encoded_first = first.encode()
        content = encoded_first * count
        ends = np.arange(count + 1, dtype=np.int32) * len(encoded_first)
    else:
        encoded = [value.encode() for value in values]
        content, ends = b"".join(encoded), np.cumsum([0, *map(len, encoded)])
    offsets = pa.py_buffer(ends.astype(np.int32).tobytes())
    return pa.StringArray.from_buffers(count, offsets, pa.py_buffer(content))
