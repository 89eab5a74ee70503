"""Patches that a list names are left out of the shards, and the manifest says which and why."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raysearch.data.files import Folder
from raysearch.data.pseudonyms import FILE, PseudonymKey, read_key_file
from raysearch.data.shards.shard_manifest import read_manifest
from raysearch.data.shards.sharding import write_shards
from raysearch.data.shards.source_names import SourceNames
from raysearch.data.sources.exclusion import nearest_name, read_exclusion
from raysearch.data.sources.listing import SourceOptions
from raysearch.errors import DataError
from support.source_images import rejections, shard_columns, shard_source, write_csv_source

TABLE = "path,label,patient\n0.png,a,p1\n1.png,b,p1\n2.png,a,p2\n../3.png,a,p2\n"


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("list.txt", "1.png\n\n1.png\n", "excluded: listed"),
        ("list.csv", "reason,file\nblank,1.png\nagain,1.png\n", "excluded: blank"),
        ("scores.csv", "path,patient\n1.png,p1\n", "excluded: listed"),
    ],
)
def test_listed_patches_are_left_out_with_their_reason(
    tmp_path: Path, name: str, text: str, reason: str
) -> None:
    source = write_csv_source(tmp_path / "set", TABLE)
    (tmp_path / name).write_text(text)
    manifest = shard_source(source, tmp_path, exclusion=read_exclusion(tmp_path / name))
    assert (manifest.files, manifest.rows, manifest.rejected) == (4, 2, 2)
    assert shard_columns(tmp_path, "source")["source"] == ["0.png", "2.png"]
    assert read_manifest(Folder(tmp_path / "out")).excluded == {"1.png": reason}
    assert rejections(tmp_path)["1.png"] == reason


def test_a_file_that_is_rejected_anyway_may_be_listed(tmp_path: Path) -> None:
    source = write_csv_source(tmp_path / "set", TABLE)
    (tmp_path / "list.txt").write_text("../3.png\n")
    manifest = shard_source(source, tmp_path, exclusion=read_exclusion(tmp_path / "list.txt"))
    assert (manifest.rows, manifest.rejected, manifest.excluded) == (3, 1, {})


@pytest.mark.parametrize("listed", ["2.pgn", "set/2.png"])
def test_a_name_that_the_source_does_not_have_is_an_error_with_the_nearest_name(
    tmp_path: Path, listed: str
) -> None:
    source = write_csv_source(tmp_path / "set", TABLE)
    (tmp_path / "list.txt").write_text(f"1.png\n{listed}\n")
    with pytest.raises(DataError) as error:
        shard_source(source, tmp_path, exclusion=read_exclusion(tmp_path / "list.txt"))
    assert f"1 of its 2 names are not in {source}, such as '{listed}'" in str(error.value)
    assert "the nearest name is '2.png'" in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_two_labels_at_one_position_are_resolved_by_leaving_out_the_wrong_one(
    tmp_path: Path,
) -> None:
    text = "path,label,patient,x,y\n0.png,a,p1,1,1\n1.png,b,p1,1,1\n2.png,b,p2,1,1\n"
    source = write_csv_source(tmp_path / "set", text)
    with pytest.raises(DataError, match="two labels for patient p1"):
        shard_source(source, tmp_path)
    (tmp_path / "list.txt").write_text("1.png")
    exclusion = read_exclusion(tmp_path / "list.txt")
    assert shard_source(source, tmp_path, exclusion=exclusion).rows == 2


def test_generated_patches_can_be_left_out(tmp_path: Path) -> None:
    write_shards("2:8:0", tmp_path / "all", "synthetic", workers=1)
    first = names_in(tmp_path / "all")[0]
    (tmp_path / "list.txt").write_text(first)
    options = SourceOptions(exclusion=read_exclusion(tmp_path / "list.txt"))
    manifest = write_shards("2:8:0", tmp_path / "out", "synthetic", options=options, workers=1)
    assert (manifest.files, manifest.rows) == (8, 7)
    assert first not in names_in(tmp_path / "out")


def names_in(shards: Path) -> list[str]:
    return [
        str(name) for name in pq.read_table(shards / "part-00000.parquet")["source"].to_pylist()
    ]


@pytest.mark.parametrize("is_pseudonym", [False, True])
def test_a_list_may_have_pseudonyms_and_the_manifest_has_only_those(
    tmp_path: Path, is_pseudonym: bool
) -> None:
    source = write_csv_source(tmp_path / "set", TABLE)
    key: PseudonymKey = read_key_file(tmp_path / "key")
    pseudonym = key.pseudonym(FILE, "1.png")
    (tmp_path / "list.txt").write_text(pseudonym if is_pseudonym else "1.png")
    exclusion = read_exclusion(tmp_path / "list.txt", key)
    manifest = write_shards(
        str(source),
        tmp_path / "out",
        "csv",
        options=SourceOptions(exclusion=exclusion),
        names=SourceNames(key),
        workers=1,
    )
    assert manifest.excluded == {pseudonym: "excluded: listed"}


def test_a_table_without_a_row_leaves_nothing_out(tmp_path: Path) -> None:
    """`raysearch inspect --outliers-csv` writes one if it finds no outlier."""
    source = write_csv_source(tmp_path / "set", TABLE)
    (tmp_path / "list.csv").write_text("file,reason\n")
    manifest = shard_source(source, tmp_path, exclusion=read_exclusion(tmp_path / "list.csv"))
    assert (manifest.rows, manifest.extensions) == (3, {})


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("list.csv", b"name\n1.png\n", "no column file or path or source"),
        ("list.txt", b"\n \n", "names no patch"),
        ("list.txt", b"\xff", "not UTF-8"),
        ("none.txt", None, "cannot be read"),
    ],
)
def test_a_list_that_cannot_be_used_is_rejected(
    tmp_path: Path, name: str, content: bytes | None, error: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=error):
        read_exclusion(tmp_path / name)


def test_the_nearest_name_has_the_same_base_name_or_a_similar_path() -> None:
    files = ["8863/0/8863_x1_y1.png", "8863/1/8863_x1_y2.png", "9/0/9_x1.png"]
    assert nearest_name("8863/1/8863_x1_y1.png", files) == files[0]
    assert nearest_name("8863/1/8863_x1_y3.png", files) == files[1]
    assert nearest_name("a", []) is None
