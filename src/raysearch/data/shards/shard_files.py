"""Opens the Parquet files of shards, and checks that their rows are those of the manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

from raysearch.config.names import LABEL
from raysearch.data.files import Folder
from raysearch.data.parquet_files import numeric_array
from raysearch.data.shards.shard_manifest import RESHARD, Manifest, Shard, TaskCounts, label_column
from raysearch.errors import DataError, first_line

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

HASH_BYTES = 32
TEXT_COLUMNS = ("patient", "slide", "site", "split", "source", "resize_mode")
POSITIONS = "positions"
# The columns of tiles of slides: the resolution in micrometres a pixel, the side of a pixel in
# pixels of level 0, the fraction of tissue, and the scanner.
MPP, DOWNSAMPLE, TISSUE, SCANNER = TILE_COLUMNS = ("mpp", "downsample", "tissue", "scanner")
NUMBER_COLUMNS = ("x", "y", "magnification")
# The columns of a shard without the labels of the additional tasks, in order.
SHARD_COLUMNS = (
    "pixels",
    LABEL,
    "patient",
    "slide",
    "x",
    "y",
    "site",
    "magnification",
    "split",
    "source",
    "resize_mode",
    "sha256",
)
OFFICIAL_SPLITS = frozenset(["", "train", "valid", "test"])
# Other encodings let a small file announce any number of rows.
ENCODINGS = frozenset(["PLAIN", "RLE", "BIT_PACKED"])
UNCOMPRESSED = "UNCOMPRESSED"


def shard_schema(
    patch_bytes: int,
    task_names: Sequence[str],
    *,
    is_bags: bool = False,
    has_tiles: bool = False,
) -> pa.Schema:
    """The Arrow schema of a shard.

    Args:
        patch_bytes: The bytes of a patch's pixels.
        task_names: The names of all tasks, the default task first.
        is_bags: Whether a row is a slide: `pixels` are the features of its patches, float16
            (n, D), and `positions` their left and top sides on the slide in pixels, int32 (n, 2),
            or nothing.
        has_tiles: Whether a row is a tile of a slide, with `TILE_COLUMNS`.
    """
    import pyarrow as pa

    kinds = {
        "pixels": pa.large_binary() if is_bags else pa.binary(patch_bytes),
        LABEL: pa.int16(),
        **dict.fromkeys(TEXT_COLUMNS, pa.string()),
        **dict.fromkeys(NUMBER_COLUMNS, pa.int32()),
        "sha256": pa.binary(HASH_BYTES),
    }
    columns = [(name, kinds[name]) for name in SHARD_COLUMNS]
    columns += [(label_column(task), pa.int16()) for task in task_names[1:]]
    if has_tiles:
        columns += [(name, pa.float64()) for name in (MPP, DOWNSAMPLE, TISSUE)]
        columns += [(SCANNER, pa.string())]
    return pa.schema([*columns, (POSITIONS, pa.large_binary())] if is_bags else columns)


@contextmanager
def open_shard(
    folder: Folder, shard: Shard, manifest: Manifest, content: bytes | None = None
) -> Iterator[pq.ParquetFile]:
    """Open a shard whose schema and number of rows are those of the manifest.

    Args:
        folder: The folder of the shards.
        shard: The entry of the manifest.
        manifest: The manifest.
        content: The bytes of the shard; None to read them from `folder`.

    Raises:
        DataError: If the shard is missing or damaged, or does not match the manifest.
    """
    import pyarrow.parquet as pq

    with (
        shard_errors(folder, shard.name),
        BytesIO(content) if content is not None else folder.open(shard.name) as file,
        pq.ParquetFile(file, page_checksum_verification=True) as parquet,
    ):
        error = next(_file_errors(parquet, shard, manifest), None)
        if error:
            raise shard_mismatch(folder, shard.name, error)
        yield parquet


def read_verified(folder: Folder, shard: Shard) -> bytes:
    """Read a shard; DataError if it is missing, or its hash differs from that in the manifest."""
    with shard_errors(folder, shard.name):
        content = folder.read(shard.name)
    if len(content) != shard.bytes or hashlib.sha256(content).hexdigest() != shard.sha256:
        raise shard_mismatch(folder, shard.name, "its hash is not the manifest's")
    return content


def shard_mismatch(folder: Folder, name: str, error: str) -> DataError:
    """The error that the shard `name` of `folder` does not match its manifest."""
    return DataError(f"{folder.path(name)}: {error}; {RESHARD}")


def _file_errors(parquet: pq.ParquetFile, shard: Shard, manifest: Manifest) -> Iterator[str]:
    schema = shard_schema(
        manifest.patch_bytes,
        manifest.task_names,
        is_bags=manifest.is_bags,
        has_tiles=manifest.has_tiles,
    )
    if not parquet.schema_arrow.equals(schema):
        yield _schema_error(parquet.schema_arrow, schema)
        return
    metadata = parquet.metadata
    if metadata.num_rows != shard.rows:
        yield f"{metadata.num_rows:,} rows, but {shard.rows:,} in the manifest"
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for number in range(row_group.num_columns):
            column = row_group.column(number)
            if column.compression != UNCOMPRESSED or not ENCODINGS.issuperset(column.encodings):
                yield f"column {column.path_in_schema} is compressed or encoded"
        if row_group.column(0).total_uncompressed_size < row_group.num_rows * manifest.patch_bytes:
            yield "column pixels has too few bytes"


def _schema_error(schema: pa.Schema, expected: pa.Schema) -> str:
    for field in expected:
        positions = schema.get_all_field_indices(field.name)
        if len(positions) != 1:
            return f"column {field.name} is {'duplicate' if positions else 'missing'}"
        if schema.field(positions[0]) != field:
            return f"column {field.name} is {schema.field(positions[0])}, expected {field}"
    return "its columns are not those of a shard"


def check_rows(table: pa.Table, folder: Folder, shard: Shard, manifest: Manifest) -> None:
    """Check the values in the row columns of a shard.

    Args:
        table: Columns of the shard that `open_shard` has opened.
        folder: The folder of the shards.
        shard: The entry of the manifest.
        manifest: The manifest.

    Raises:
        DataError: If a value is missing that must not be, or is not allowed.
    """
    table.validate(full=True)
    for error in _value_errors(table, manifest):
        raise shard_mismatch(folder, shard.name, error)


def _value_errors(table: pa.Table, manifest: Manifest) -> Iterator[str]:
    required = {"pixels", "sha256", POSITIONS, *TEXT_COLUMNS, *TILE_COLUMNS}
    for name in required.intersection(table.column_names):
        if table.column(name).null_count:
            yield f"column {name} has rows without a value"
    for task in manifest.task_names:
        name, num_classes = label_column(task), len(manifest.classes_of(task))
        if name in table.column_names:
            labels = _labels(table.column(name))
            if len(labels) and not (labels.min() >= 0 and labels.max() < num_classes):
                yield f"column {name} has a label that is none of its {num_classes} classes"
    if "split" in table.column_names:
        unknown = set(table.column("split").unique().to_pylist()) - OFFICIAL_SPLITS
        if unknown:
            yield f"column split has {min(unknown)!r}, expected train, valid, test or nothing"


def pixel_chunks(table: pa.Table, patch_bytes: int) -> Iterator[NDArray[np.uint8]]:
    """Iterate over the pixels of a shard's rows without copying them.

    Args:
        table: Rows of a shard that `open_shard` has opened, with the column `pixels`.
        patch_bytes: The bytes of a patch's pixels.

    Yields:
        Read-only arrays, uint8, shape (n, patch_bytes), of consecutive rows.

    Raises:
        pyarrow.ArrowInvalid: If a row has no pixels.
    """
    import numpy as np
    import pyarrow as pa

    for chunk in table.column("pixels").chunks:
        if chunk.null_count:
            raise pa.ArrowInvalid("column pixels has rows without a value")
        if len(chunk):
            content = np.frombuffer(chunk.buffers()[1], np.uint8)
            start, stop = chunk.offset * patch_bytes, (chunk.offset + len(chunk)) * patch_bytes
            yield content[start:stop].reshape(-1, patch_bytes)


def bag_values(table: pa.Table, patch_bytes: int) -> Iterator[NDArray[np.uint8]]:
    """Iterate over the features of the slides of a shard of bags.

    Args:
        table: Rows of a shard that `open_shard` has opened, with the column `pixels`.
        patch_bytes: The bytes of a patch's features.

    Yields:
        Read-only arrays, uint8, shape (patches, patch_bytes), of consecutive rows.

    Raises:
        pyarrow.ArrowInvalid: If a row has no features, or a part of those of a patch.
    """
    import numpy as np
    import pyarrow as pa

    for value in table.column("pixels"):
        content = None if not value.is_valid else value.as_buffer()
        if content is None or not content.size or content.size % patch_bytes:
            raise pa.ArrowInvalid("column pixels has a slide without whole features")
        values = np.frombuffer(content, np.uint8)
        if not np.isfinite(values.view(np.float16)).all():  # NaN stands for a missing patch
            raise pa.ArrowInvalid("column pixels has features that are not finite")
        yield values.reshape(-1, patch_bytes)


def check_patch_hashes(patches: NDArray[np.uint8], hashes: Sequence[bytes]) -> None:
    """Check that `hashes` are the SHA-256 of each of the `patches`, shape (n, patch_bytes).

    Raises:
        pyarrow.ArrowInvalid: If they are not.
    """
    import pyarrow as pa

    if [hashlib.sha256(patch).digest() for patch in patches] != list(hashes):
        raise pa.ArrowInvalid("column sha256 does not have the hashes of the pixels")


def check_totals(table: pa.Table, folder: Folder, manifest: Manifest) -> None:
    """Check that the rows of all shards are as many of each class and patient as in the manifest.

    Args:
        table: The patients and the labels of all tasks, in all rows of the shards.
        folder: The folder of the shards.
        manifest: The manifest.

    Raises:
        DataError: If they are not.
    """
    import numpy as np

    default_task = TaskCounts(LABEL, manifest.class_names, manifest.class_counts)
    for task in (default_task, *manifest.tasks):
        labels = _labels(table.column(label_column(task.name)))
        counts = np.bincount(labels, minlength=len(task.class_counts)).tolist()
        if tuple(counts) != task.class_counts:
            raise DataError(
                f"{folder.address}: {counts} rows of each class of {task.name}, but"
                f" {list(task.class_counts)} in the manifest; {RESHARD}"
            )
    num_patients = len(table.column("patient").unique())
    if num_patients != manifest.patients:
        raise DataError(
            f"{folder.address}: {num_patients:,} patients, but {manifest.patients:,} in the"
            f" manifest; {RESHARD}"
        )


def _labels(column: pa.ChunkedArray) -> NDArray[np.int16]:
    import numpy as np

    return np.asarray(numeric_array(column.drop_null()), np.int16)


@contextmanager
def shard_errors(folder: Folder, name: str) -> Iterator[None]:
    """Convert errors of reading the shard `name` of `folder` to DataError that names it."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError:
        raise DataError(
            f"{folder.path(name)}: missing; copy the shards again, or shard the images again"
        ) from None
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise DataError(
            f"{folder.path(name)}: damaged ({first_line(error)}); copy the shards again, or shard"
            " the images again"
        ) from None
