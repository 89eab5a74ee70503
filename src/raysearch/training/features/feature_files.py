"""Features of patches as Parquet."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysearch.data.parquet_files import read_parquet
from raysearch.training.features.extraction import PatchFeatures


def encode_features(features: PatchFeatures) -> bytes:
    """Encode features as Parquet: a column `features`, and one row a patch."""
    num_rows, num_views, width = features.values.shape
    values = pa.array(np.ascontiguousarray(features.values).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(values, num_views * width)
    schema = pa.schema(
        [pa.field("features", column.type, nullable=False)],
        metadata={
            "views": str(num_views),
            "width": str(width),
            "view_ms": repr(features.view_ms),
        },
    )
    buffer = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_arrays([column], schema=schema),
        buffer,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
        row_group_size=max(1, num_rows),
    )
    return bytes(buffer.getvalue())


def decode_features(content: bytes) -> PatchFeatures:
    """Decode the Parquet of `encode_features`.

    Raises:
        ValueError: If it has no features, or some are missing.
        pyarrow.ArrowException: If it is damaged.
    """
    table = read_parquet(content, ["features"])
    metadata = table.schema.metadata or {}
    num_views, width = int(metadata[b"views"]), int(metadata[b"width"])
    column = table.column("features").combine_chunks()
    if column.null_count or column.type.list_size != num_views * width:
        raise ValueError("features are missing")
    values = np.asarray(np.from_dlpack(column.flatten()), np.float16)
    return PatchFeatures(values.reshape(-1, num_views, width), float(metadata[b"view_ms"]))
