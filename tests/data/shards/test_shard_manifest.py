"""A manifest that does not match its shards is rejected."""

import json
from pathlib import Path
from typing import Any

import pytest

from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.rows import load_rows
from raysearch.errors import DataError
from support.source_images import shard_source


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_manifest_that_was_changed_is_rejected(idc: Path, tmp_path: Path) -> None:
    shard_source(idc, tmp_path, "idc")
    path = tmp_path / "out" / "manifest.json"
    (shard,) = json.loads(path.read_text())["shards"]
    change(path, shards=[{**shard, "sha256": "0" * 64}])
    with pytest.raises(DataError, match="changed"):
        load_rows(str(tmp_path / "out"))
    path.write_text("{")
    with pytest.raises(DataError, match="not a manifest"):
        load_rows(str(tmp_path / "out"))
    with pytest.raises(DataError, match="no manifest"):
        load_rows(str(idc))


def test_a_manifest_with_another_number_of_rows_is_rejected(idc: Path, tmp_path: Path) -> None:
    shard_source(idc, tmp_path, "idc")
    change(tmp_path / "out" / "manifest.json", rows=3)
    with pytest.raises(DataError, match="changed"):
        load_patches(str(tmp_path / "out"), tmp_path / "cache")


def test_another_format_version_is_rejected(idc: Path, tmp_path: Path) -> None:
    shard_source(idc, tmp_path, "idc")
    change(tmp_path / "out" / "manifest.json", version=2)
    with pytest.raises(DataError, match=r"format version 2, expected 3; shard the images again"):
        load_rows(str(tmp_path / "out"))
