"""Converts shards whose manifest has an older format version."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import JsonValue, TypeAdapter, ValidationError

from raysearch.config.json_values import parse_json
from raysearch.data.files import Folder
from raysearch.data.shards.shard_file_writer import ShardFile
from raysearch.data.shards.shard_files import (
    TEXT_COLUMNS,
    check_patch_hashes,
    check_rows,
    check_totals,
    pixel_chunks,
    read_verified,
    shard_errors,
    shard_mismatch,
    shard_schema,
)
from raysearch.data.shards.shard_manifest import (
    CONVERTIBLE_VERSIONS,
    MANIFEST_FILE,
    RESHARD,
    VERSION,
    Manifest,
    Shard,
    read_stored_manifest,
    reject_contradictions,
)
from raysearch.data.shards.shard_writer import REJECTED_FILE
from raysearch.errors import DataError

Progress = Callable[[int, int], None]
# Columns that were renamed in version 4.
RENAMED_COLUMNS = {"fitted": "resize_mode"}
# The columns that version 1 does not have.
ADDED_COLUMNS = ("site", "magnification", "split")
# A field of a manifest of format version 3, and its name before.
RENAMED = {"rejected": "refused", "resize_modes": "fitted"}


@dataclass(frozen=True)
class OldShards:
    """Shards of an older format version: the manifest as it would be now, and its fingerprint."""

    folder: Folder
    manifest: Manifest
    fingerprint: str


def has_manifest_of_shards(source: str) -> bool:
    """Whether `source` is a folder of shards, and not of images with a file of the same name."""
    folder = Folder(source)
    if not folder.exists(MANIFEST_FILE):
        return False
    try:
        stored = parse_json(folder.read(MANIFEST_FILE))
    except (ValueError, DataError):
        return False
    return isinstance(stored, dict) and {"shards", "fingerprint"} <= stored.keys()


def read_old_manifest(folder: Folder) -> OldShards:
    """Read the manifest of shards of an older format version.

    Raises:
        DataError: If its version is current or unknown, or it is changed or damaged.
    """
    path = folder.path(MANIFEST_FILE)
    stored = read_stored_manifest(folder)
    version = stored.get("version") if isinstance(stored, dict) else None
    if version == VERSION:
        raise DataError(f"{path}: has the current format version {VERSION}; use it as it is")
    if version not in CONVERTIBLE_VERSIONS:
        raise DataError(f"{path}: format version {version} is unknown; {RESHARD}")
    try:
        values = TypeAdapter(dict[str, JsonValue]).validate_python(stored)
        fingerprint = TypeAdapter(str).validate_python(values.pop("fingerprint"))
        manifest = _decode(values)
    except (ValidationError, ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f"{path}: not a manifest; {RESHARD}") from None
    hashes = "\n".join(shard.sha256 for shard in manifest.shards)
    if sha256(hashes.encode()).hexdigest() != fingerprint:
        raise DataError(f"{path}: changed; {RESHARD}")
    reject_contradictions(manifest, path)
    return OldShards(folder, manifest, fingerprint)


def _decode(values: Mapping[str, JsonValue]) -> Manifest:
    renamed = {
        **{name: values[old] for name, old in RENAMED.items() if old in values},
        **{name: value for name, value in values.items() if name not in RENAMED.values()},
        "tasks": values.get("tasks", []),  # version 1 has none
        "version": VERSION,
        "source": "",  # a path that is not UTF-8, which pydantic rejects
    }
    manifest = TypeAdapter(Manifest).validate_json(json.dumps(renamed), strict=True)
    return replace(manifest, source=str(values["source"]))


def convert_shards(old: OldShards, out: Path, progress: Progress) -> Manifest:
    """Write the rows of older shards to the folder `out`, with a manifest of this version.

    Args:
        old: The older shards.
        out: An existing, empty folder.
        progress: Is called with (rows done, all rows).

    Raises:
        DataError: If the shards are damaged, or do not match their manifest.
    """
    shards: list[Shard] = []
    row_tables: list[pa.Table] = []
    for number, shard in enumerate(old.manifest.shards):
        path = out / f"part-{number:05d}.parquet"
        new_shard, rows = _convert_shard(old, shard, path)
        shards.append(new_shard)
        row_tables.append(rows)
        progress(sum(done.rows for done in shards), old.manifest.rows)
    check_totals(pa.concat_tables(row_tables), old.folder, old.manifest)
    manifest = replace(old.manifest, shards=tuple(shards))
    reject_contradictions(manifest, old.folder.path(MANIFEST_FILE))
    folder = Folder(out)
    if old.folder.exists(REJECTED_FILE):
        folder.write(REJECTED_FILE, old.folder.read(REJECTED_FILE))
    folder.write(MANIFEST_FILE, manifest.dump())
    return manifest


def _convert_shard(old: OldShards, shard: Shard, path: Path) -> tuple[Shard, pa.Table]:
    """Write one shard to `path`; also return its rows without the pixels."""
    manifest = old.manifest
    schema = shard_schema(manifest.patch_bytes, manifest.task_names)
    content = read_verified(old.folder, shard)
    rows = []
    with (
        shard_errors(old.folder, shard.name),
        pq.ParquetFile(BytesIO(content), page_checksum_verification=True) as parquet,
        ShardFile(path, schema) as file,
    ):
        for group in range(parquet.num_row_groups):
            table = _with_all_columns(parquet.read_row_group(group), schema)
            if not table.schema.equals(schema):
                raise shard_mismatch(old.folder, shard.name, "its columns are not those of a shard")
            check_rows(table, old.folder, shard, manifest)
            hashes = table.column("sha256").to_pylist()
            for patches in pixel_chunks(table, manifest.patch_bytes):
                check_patch_hashes(patches, hashes[: len(patches)])
                hashes = hashes[len(patches) :]
            file.write(table)
            rows.append(table.drop_columns(["pixels"]))
        return file.close(), pa.concat_tables(rows)


def _with_all_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` with the columns of `schema` in its order; those that version 1 lacks are empty."""
    names = [RENAMED_COLUMNS.get(name, name) for name in table.schema.names]
    table = table.rename_columns(names)
    for field in schema:
        if field.name in ADDED_COLUMNS and field.name not in table.schema.names:
            value = pa.scalar("" if field.name in TEXT_COLUMNS else None, field.type)
            table = table.append_column(field, pa.repeat(value, table.num_rows))
    return table.select(schema.names) if set(schema.names) <= set(table.schema.names) else table
