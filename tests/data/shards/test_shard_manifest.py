"""A manifest that does not match its shards is rejected."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysearch.cli import run
from raysearch.data.audit.shard_reader import open_shards, read_row_sources
from raysearch.data.audit.train_test_overlap import read_origins
from raysearch.data.files import Folder
from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.rows import load_rows
from raysearch.data.shards.shard_manifest import Manifest, TaskCounts, read_manifest
from raysearch.errors import DataError
from support.source_images import shard_source

MANIFEST = "manifest.json"
SHARD = "part-00000.parquet"


@pytest.fixture
def out(idc: Path, tmp_path: Path) -> Path:
    """Shards of eight patches."""
    shard_source(idc, tmp_path, "idc")
    return tmp_path / "out"


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def sign(folder: Path, **values: Any) -> Manifest:
    """Change fields of the manifest, and write it with its own fingerprint and checksum."""
    manifest = replace(read_manifest(Folder(folder)), **values)
    (folder / MANIFEST).write_bytes(manifest.dump())
    return manifest


def write_signed(folder: Path, table: pa.Table, **options: Any) -> None:
    """Replace the shard by `table`, and sign the manifest as its writer would."""
    plain: dict[str, Any] = {"compression": "none", "use_dictionary": False}
    pq.write_table(table, folder / SHARD, write_page_checksum=True, **{**plain, **options})
    content = (folder / SHARD).read_bytes()
    (shard,) = read_manifest(Folder(folder)).shards
    sha256 = hashlib.sha256(content).hexdigest()
    shard = replace(shard, rows=table.num_rows, bytes=len(content), sha256=sha256)
    sign(folder, shards=(shard,))


def test_a_manifest_that_was_changed_is_rejected(idc: Path, out: Path) -> None:
    path = out / MANIFEST
    good = path.read_bytes()
    (shard,) = json.loads(good)["shards"]
    changes: tuple[dict[str, Any], ...] = (
        {"shards": [{**shard, "sha256": "0" * 64}]},
        {"rows": 3},
        {"shape": [50, 25, 3]},
        {"source": "elsewhere"},
        {"warnings": ["another"]},
        {"class_names": ["1", "0"]},
        {"extensions": {"mpp": 0.25}},
        {"fingerprint": "0" * 64},
        {"checksum": "0" * 64},
    )
    for values in changes:
        change(path, **values)
        with pytest.raises(DataError, match="changed"):
            load_rows(str(out))
        path.write_bytes(good)
    changes = ({"rows": "8"}, {"rows": 8.0}, {"shards": None}, {"checksum": None})
    for values in changes:
        change(path, **values)
        with pytest.raises(DataError, match=r"not a manifest|changed"):
            load_rows(str(out))
        path.write_bytes(good)
    path.write_text("{")
    with pytest.raises(DataError, match="not a manifest"):
        load_rows(str(out))
    with pytest.raises(DataError, match="no manifest"):
        load_rows(str(idc))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shape": (50, 25, 3)}, "column pixels is"),
        ({"shape": (16, 16, 3)}, "column pixels is"),
        ({"shape": (5000, 50, 3)}, "1 to 4096 a side"),
        ({"shape": (50, 50, 1)}, "is not .height, width, 3."),
        ({"rows": 9}, "its number of rows is not the sum over its shards"),
        ({"rejected": 1}, "rows and rejected files do not add up to the files"),
        ({"patients": 3}, "2 patients, but 3 in the manifest"),
        ({"patients": 0}, "0 patients for 8 rows"),
        ({"class_counts": (5, 3)}, r"\[4, 4\] rows of each class of label, but \[5, 3\]"),
        ({"class_counts": (4, 5)}, "are not those of 8 rows"),
        ({"class_names": ("a", "a")}, "classes and counts of task label do not match"),
        ({"class_names": ("a",), "class_counts": (8,)}, "a label that is none of its 1 classes"),
        ({"resize_modes": {"as is": 7}}, "resize modes are not those"),
        ({"tasks": (TaskCounts("grade", ("1",), (8,)),)}, "column label_grade is missing"),
        ({"tasks": (TaskCounts("label", ("1",), (8,)),)}, "a task is listed twice"),
    ],
)
def test_a_signed_manifest_that_does_not_match_its_shards_is_rejected(
    out: Path, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    sign(out, **values)
    for read in (load_rows, lambda data: load_patches(data, tmp_path / "cache")):
        with pytest.raises(DataError, match=message) as caught:
            read(str(out))
        assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").rglob("*.npy"))


@pytest.mark.parametrize("name", ["../part-00000.parquet", "/etc/passwd", "a/b.parquet", "x"])
def test_a_shard_whose_name_is_not_plain_is_rejected(out: Path, name: str) -> None:
    (shard,) = read_manifest(Folder(out)).shards
    sign(out, shards=(replace(shard, name=name),))
    with pytest.raises(DataError, match="a shard is not named"):
        load_rows(str(out))


def cast(name: str, kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    def changed(table: pa.Table) -> pa.Table:
        index = table.column_names.index(name)
        return table.set_column(index, name, table.column(name).cast(kind))

    return changed


def put(name: str, values: list[Any]) -> Callable[[pa.Table], pa.Table]:
    def changed(table: pa.Table) -> pa.Table:
        index, field = table.column_names.index(name), table.schema.field(name)
        column = pa.array(values + table.column(name).to_pylist()[len(values) :], field.type)
        return table.set_column(index, field, column)

    return changed


def wide_pixels(table: pa.Table) -> pa.Table:
    values = np.zeros((table.num_rows, 7500), np.int64)
    kind = pa.list_(pa.int64(), 7500)
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=kind)
    return table.set_column(0, "pixels", column)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (wide_pixels, "column pixels is"),
        (cast("label", pa.int64()), "column label is pyarrow.Field<label: int64>"),
        (cast("patient", pa.large_string()), "column patient is"),
        (cast("patient", pa.binary()), "column patient is"),
        (cast("x", pa.float64()), "column x is"),
        (lambda table: table.drop_columns(["sha256"]), "column sha256 is missing"),
        (lambda table: table.append_column("y", table.column("x")), "column y is duplicate"),
        (lambda table: table.append_column("z", table.column("x")), "not those of a shard"),
        (put("label", [99]), "a label that is none of its 2 classes"),
        (put("label", [-1]), "a label that is none of its 2 classes"),
        (put("label", [None]), "rows of each class of label"),
        (put("label", [1]), "rows of each class of label"),
        (put("patient", [None]), "column patient has rows without a value"),
        (put("patient", ["another"]), "3 patients, but 2 in the manifest"),
        (put("slide", [None]), "column slide has rows without a value"),
        (put("split", ["elsewhere"]), "column split has 'elsewhere'"),
    ],
)
def test_a_signed_shard_of_other_columns_or_values_is_rejected(
    out: Path, tmp_path: Path, changed: Callable[[pa.Table], pa.Table], message: str
) -> None:
    write_signed(out, changed(pq.read_table(out / SHARD)))
    for read in (load_rows, lambda data: load_patches(data, tmp_path / "cache")):
        with pytest.raises(DataError, match=message) as caught:
            read(str(out))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (put("pixels", [None]), "too few bytes for 8 rows"),
        (put("pixels", [bytes(7500)]), "column sha256 does not have the hashes of the pixels"),
        (put("sha256", [bytes(32)]), "column sha256 does not have the hashes of the pixels"),
        (put("sha256", [None]), "column sha256 has rows without a value"),
    ],
)
def test_the_pixels_of_a_signed_shard_are_checked_when_they_are_read(
    out: Path, tmp_path: Path, changed: Callable[[pa.Table], pa.Table], message: str
) -> None:
    write_signed(out, changed(pq.read_table(out / SHARD)))
    with pytest.raises(DataError, match=message):
        load_patches(str(out), tmp_path / "cache")


def test_every_reader_checks_the_columns(out: Path) -> None:
    write_signed(out, cast("sha256", pa.binary())(pq.read_table(out / SHARD)))
    for read in (read_origins, lambda data: read_row_sources(open_shards(data, "label"))):
        with pytest.raises(DataError, match="column sha256 is"):
            read(str(out))
    assert run(["inspect", str(out)]) == 2
    assert run(["split", str(out)]) == 2


@pytest.mark.parametrize(
    "options",
    [{"compression": {"patient": "zstd"}}, {"use_dictionary": ["patient"]}],
    ids=["compressed", "dictionary"],
)
def test_a_shard_that_announces_more_than_it_stores_is_rejected(
    out: Path, options: dict[str, Any]
) -> None:
    write_signed(out, pq.read_table(out / SHARD), **options)
    with pytest.raises(DataError, match="is compressed or encoded"):
        load_rows(str(out))


def test_a_text_that_is_not_utf8_is_rejected(out: Path) -> None:
    table = pq.read_table(out / SHARD)
    names = pa.array([b"\xff" * 4] * table.num_rows, pa.binary())
    column = pa.StringArray.from_buffers(len(names), *names.buffers()[1:])
    index = table.column_names.index("patient")
    write_signed(out, table.set_column(index, "patient", column))
    with pytest.raises(DataError, match=r"part-00000\.parquet: damaged \(.*UTF"):
        load_rows(str(out))


def test_the_fingerprint_is_that_of_the_data_and_not_of_its_address(
    idc: Path, out: Path, tmp_path: Path
) -> None:
    manifest = read_manifest(Folder(out))
    moved = idc.rename(tmp_path / "moved")
    (tmp_path / "second").mkdir()
    assert shard_source(moved, tmp_path / "second", "idc").fingerprint == manifest.fingerprint
    assert replace(manifest, source="elsewhere").fingerprint == manifest.fingerprint
    assert replace(manifest, shape=(25, 100, 3)).fingerprint != manifest.fingerprint
    assert replace(manifest, class_names=("b", "a")).fingerprint != manifest.fingerprint


def test_what_an_extension_says_is_kept_and_an_unknown_requirement_is_rejected(out: Path) -> None:
    extensions = {"scanner": {"mpp": 0.25, "vendor": "A"}}
    sign(out, extensions=extensions)
    assert read_manifest(Folder(out)).extensions == extensions
    assert len(load_rows(str(out)).labels) == 8
    sign(out, requires=("compressed-pixels",))
    with pytest.raises(DataError, match=r"requires compressed-pixels, which .* update raysearch"):
        load_rows(str(out))


def test_an_older_format_version_is_rejected_with_the_command_that_converts_it(out: Path) -> None:
    change(out / MANIFEST, version=3)
    message = r"format version 3, and this raysearch reads 4; convert it with `raysearch shard"
    with pytest.raises(DataError, match=message):
        load_rows(str(out))
    change(out / MANIFEST, version=5)
    with pytest.raises(DataError, match="not a manifest of format version 4"):
        load_rows(str(out))


def test_a_source_that_is_not_utf8_is_kept(out: Path) -> None:
    source = "/data/\udcff"
    sign(out, source=source)
    assert read_manifest(Folder(out)).source == source
