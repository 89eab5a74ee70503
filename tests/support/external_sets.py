"""Shards whose patients have other names, and the JSON output of commands."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysearch.cli import run
from raysearch.data.files import Folder
from raysearch.data.shards.shard_manifest import read_manifest


def json_output(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Run a command with `--json` in this process, and return what it prints."""
    capsys.readouterr()
    assert run([*words, "--json"]) == 0
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    return content


def rename_patients(shards: Path, prefix: str) -> None:
    """Put `prefix` before the name of each patient of the shards."""
    manifest = read_manifest(Folder(shards))
    renamed = []
    for shard in manifest.shards:
        path = shards / shard.name
        table = pq.read_table(path)
        names = pa.array([prefix + name for name in table["patient"].to_pylist()])
        index = table.column_names.index("patient")
        field = table.schema.field("patient")
        table = table.set_column(index, field, names.cast(field.type))
        pq.write_table(
            table, path, compression="none", use_dictionary=False, write_page_checksum=True
        )
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        renamed.append(replace(shard, bytes=len(content), sha256=sha256))
    manifest = replace(manifest, shards=tuple(renamed))
    (shards / "manifest.json").write_bytes(manifest.dump())
