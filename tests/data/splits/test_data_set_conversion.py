"""Shards of older format versions become those of the current one, with their splits."""

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
from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.shard_manifest import read_manifest
from raysearch.data.shards.sharding import write_shards
from raysearch.data.splits.access_log import (
    TestSetAccess,
    read_test_set_accesses,
    record_test_set_access,
)
from raysearch.data.splits.data_set_conversion import convert_data_set
from raysearch.data.splits.split_manifest import FOLDER, read_split_manifest
from raysearch.errors import DataError

ADDED_IN_4 = ("image_changes", "rejections", "requires", "extensions", "checksum")


@pytest.fixture
def current(tmp_path: Path) -> Path:
    """Shards of 96 patches of eight patients, in the current format version."""
    write_shards("8:96:1", tmp_path / "current", "synthetic", workers=1)
    return tmp_path / "current"


def old_shards(current: Path, out: Path, version: int) -> Path:
    """Write the shards `current` as the product of that version did."""
    out.mkdir()
    values: dict[str, Any] = json.loads((current / "manifest.json").read_text())
    for name in ADDED_IN_4:
        del values[name]
    if version < 3:
        values["refused"], values["fitted"] = values.pop("rejected"), values.pop("resize_modes")
    if version == 1:
        del values["tasks"]
    for shard in values["shards"]:
        table = pq.read_table(current / shard["name"])
        if version == 1:
            table = table.drop_columns(["site", "magnification", "split"])
        names = ["fitted" if name == "resize_mode" else name for name in table.schema.names]
        table = table.rename_columns(names)
        plain: dict[str, Any] = {"compression": "none", "use_dictionary": False}
        pq.write_table(table, out / shard["name"], write_page_checksum=True, **plain)
        content = (out / shard["name"]).read_bytes()
        shard |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (out / "rejected.csv").write_text("file,reason\n")
    sign_old(out, {**values, "version": version})
    return out


def sign_old(folder: Path, values: dict[str, Any]) -> None:
    hashes = "\n".join(shard["sha256"] for shard in values["shards"])
    values["fingerprint"] = hashlib.sha256(hashes.encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(values))


@pytest.mark.parametrize("version", [1, 2, 3])
def test_older_shards_become_those_that_sharding_the_images_again_writes(
    current: Path, tmp_path: Path, version: int
) -> None:
    old = old_shards(current, tmp_path / "old", version)
    assert run(["shard", str(old), str(tmp_path / "new")]) == 0
    assert read_manifest(Folder(tmp_path / "new")) == read_manifest(Folder(current))
    expected = load_patches(str(current), tmp_path / "cache")
    patches = load_patches(str(tmp_path / "new"), tmp_path / "another_cache")
    assert (patches.pixels == expected.pixels).all()
    assert (patches.patients == expected.patients).all()
    assert (tmp_path / "new" / "rejected.csv").read_text() == "file,reason\n"


def test_splits_and_the_access_log_are_those_of_the_new_shards(
    current: Path, tmp_path: Path
) -> None:
    assert run(["split", str(current), "--test", "0.3"]) == 0
    old = old_shards(current, tmp_path / "old", 3)
    before = read_manifest(Folder(current)).fingerprint
    split_manifest = read_split_manifest(Folder(current), "label", before)
    old_fingerprint = json.loads((old / "manifest.json").read_text())["fingerprint"]
    replace(split_manifest, fingerprint=old_fingerprint).write(Folder(old), "label")
    access = TestSetAccess("2026-01-01T00:00:00+00:00", "a@b", "first", "id", "7", {})
    record_test_set_access(access, Folder(old), "label")
    (old / FOLDER / "damaged.json").write_text("{}")
    manifest, left_out = convert_data_set(str(old), tmp_path / "new")
    new = Folder(tmp_path / "new")
    converted = read_split_manifest(new, "label", manifest.fingerprint)
    assert (converted.held_out, converted.schemes) == (
        split_manifest.held_out,
        split_manifest.schemes,
    )
    assert read_test_set_accesses(new, "label") == [access]
    (message,) = left_out
    assert "damaged.json: changed or damaged" in message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"version": 4}, "has the current format version 4; use it as it is"),
        ({"version": 9}, "format version 9 is unknown"),
        ({"fingerprint": "0" * 64}, "changed"),
        ({"shape": [50, 25, 3]}, "not those of a shard"),
        ({"class_counts": [1, 95]}, "rows of each class of label"),
        ({"rows": "96"}, "not a manifest"),
        ({"shards": []}, "changed"),
    ],
)
def test_shards_that_cannot_be_converted_are_rejected_and_leave_no_folder(
    current: Path, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    old = old_shards(current, tmp_path / "old", 3)
    stored = json.loads((old / "manifest.json").read_text())
    (old / "manifest.json").write_text(json.dumps({**stored, **values}))
    with pytest.raises(DataError, match=message):
        convert_data_set(str(old), tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "old"]


def test_damaged_and_false_rows_of_older_shards_are_rejected(current: Path, tmp_path: Path) -> None:
    old = old_shards(current, tmp_path / "old", 3)
    path = old / "part-00000.parquet"
    good = path.read_bytes()
    path.write_bytes(good[:5000] + bytes([good[5000] ^ 1]) + good[5001:])
    with pytest.raises(DataError, match="its hash is not the manifest's"):
        convert_data_set(str(old), tmp_path / "new")
    path.write_bytes(good)
    table = pq.read_table(path)
    labels = pa.array([99] * table.num_rows, pa.int16())
    index = table.schema.get_field_index("label")
    plain: dict[str, Any] = {"compression": "none", "use_dictionary": False}
    forged = table.set_column(index, "label", labels)
    pq.write_table(forged, path, write_page_checksum=True, **plain)
    stored = json.loads((old / "manifest.json").read_text())
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    stored["shards"][0] |= {"bytes": len(content), "sha256": digest}
    sign_old(old, stored)
    with pytest.raises(DataError, match="a label that is none of its 2 classes"):
        convert_data_set(str(old), tmp_path / "new")


def test_options_of_sharding_images_are_rejected(
    current: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = old_shards(current, tmp_path / "old", 3)
    assert run(["shard", str(old), str(tmp_path / "new"), "--size", "32"]) == 2
    assert "shards are converted as they are" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
