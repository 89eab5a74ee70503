"""Rows are read as they were sharded, and damaged shards are named."""

from pathlib import Path

import pytest

from raysearch.data.files import Folder
from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.rows import load_rows
from raysearch.data.shards.shard_files import shard_errors
from raysearch.errors import DataError, StorageError
from support.failing_store import NO_KEY, failing_folder
from support.source_images import shard_source


def test_a_flipped_byte_is_rejected_with_the_shards_name(idc: Path, tmp_path: Path) -> None:
    shard_source(idc, tmp_path, "idc")
    path = tmp_path / "out" / "part-00000.parquet"
    content = path.read_bytes()
    for position in range(1000, len(content), 9973):
        flipped = bytes([content[position] ^ 1])
        path.write_bytes(content[:position] + flipped + content[position + 1 :])
        with pytest.raises(DataError, match=r"part-00000\.parquet: .*again"):
            load_patches(str(tmp_path / "out"), tmp_path / "cache")
    path.unlink()
    with pytest.raises(DataError, match=r"part-00000\.parquet: missing"):
        load_rows(str(tmp_path / "out"))


def test_a_shard_that_cannot_be_fetched_is_not_reported_as_damaged() -> None:
    folder: Folder = failing_folder(NO_KEY)
    with pytest.raises(StorageError), shard_errors(folder, "part-00000.parquet"):
        folder.read("part-00000.parquet")
