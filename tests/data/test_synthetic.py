"""Synthetic patches are the same each time."""

from pathlib import Path

import numpy as np
import pytest

from raysearch.data.files import Folder
from raysearch.data.shards.rows import load_rows
from raysearch.data.shards.shard_manifest import read_manifest
from raysearch.data.shards.sharding import write_shards
from raysearch.errors import DataError


@pytest.mark.parametrize("source", ["24", "a:b:c", "1:10:0", "10:5:0", "1:2:3:4"])
def test_a_malformed_synthetic_source_is_rejected(tmp_path: Path, source: str) -> None:
    with pytest.raises(DataError, match="PATIENTS:PATCHES:SEED"):
        write_shards(source, tmp_path / "out", "synthetic", workers=1)


def test_the_synthetic_patches_are_the_same_each_time(shards: Path, tmp_path: Path) -> None:
    manifest = write_shards("12:240:3", tmp_path / "out", "synthetic", workers=2)
    assert manifest.fingerprint == read_manifest(Folder(shards)).fingerprint
    rows = load_rows(str(shards))
    for patient in np.unique(rows.patients):
        assert (rows.patients == patient).sum() == 20
