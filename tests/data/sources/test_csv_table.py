"""A CSV file brings columns and tasks; what would mislead is rejected."""

import csv
import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from raysearch.data.shards.rows import View, load_rows
from raysearch.data.sources.csv_table import list_csv
from raysearch.data.sources.listing import SourceOptions
from raysearch.errors import DataError
from support.source_images import (
    rejections,
    shard_columns,
    shard_source,
    synthetic_patches,
    write_csv_source,
)

FIELDS = st.text(st.sampled_from('ab0.png/\\:, "\r\n;\ufeff'), max_size=8)


def test_a_csv_file_has_optional_columns_and_additional_tasks(tmp_path: Path) -> None:
    source = write_csv_source(
        tmp_path / "secm",
        "path,label,patient,slide,site,x,y,magnification,split,label_review\n"
        "0.png,adipose,p1,s1,A,1,2,40,train,yes\n"
        "1.png,fibrous,p1,s1,A,51,2,40,train,\n"
        "2.png,other,p2,s2,B,,,,test,no\n"
        "3.png,,p3,,,,,,,no\n",
    )
    manifest = shard_source(source, tmp_path)
    assert (manifest.format, manifest.rows) == ("csv", 4)
    assert manifest.class_names == ("adipose", "fibrous", "other")
    assert manifest.tasks[0].class_names == ("no", "yes")
    rows = load_rows(str(tmp_path / "out"))
    assert rows.labels.tolist() == [0, 1, 2]
    assert rows.sites.tolist() == ["A", "A", "B"]
    assert rows.xs.tolist()[:2] == [1.0, 51.0]
    assert np.isnan(rows.xs[2])
    review = load_rows(str(tmp_path / "out"), View("review"))
    assert review.patients.tolist() == ["p1", "p2", "p3"]
    assert review.labels.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("path,label\n0.png,a\n", "no column 'patient'"),
        ("path,label,patient,colour\n0.png,a,p,red\n", "column 'colour' is unknown"),
        ("path,label,patient,label\n0.png,a,p,b\n", "column 'label' twice"),
        ("path,label,patient\n0.png,a\n", "line 2 has not as many fields"),
        ('path,label,patient\n0.png,"a,p\n', "unexpected end"),
        ('"path"x,label,patient\n', "line 1"),
        ("path,label,patient,label_label\n0.png,a,p,b\n", "column 'label_label' is unknown"),
        ("path,label,patient,label_a/b\n0.png,a,p,b\n", "column 'label_a/b' is unknown"),
        (
            "path,label,patient\n" + "".join(f"{n}.png,{n},p\n" for n in range(1001)),
            "1,001 classes in label",
        ),
        (f"path,label,patient\n{'x' * 200_000},a,p\n", "field larger than field limit"),
    ],
)
def test_a_csv_file_that_cannot_be_used_is_rejected(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(DataError, match=error):
        shard_source(write_csv_source(tmp_path / "set", text), tmp_path)
    assert not (tmp_path / "out").exists()


def test_rows_that_cannot_be_used_are_rejected_by_path(tmp_path: Path) -> None:
    source = write_csv_source(
        tmp_path / "secm",
        "path,label,patient,x\n"
        "0.png,a,p1,\n1.png,b,p2,\n2.png,c,p2,\n3.png,a,,\n4.png,a,p3,near\n"
        "../out.png,a,p1,\n/etc/passwd,a,p1,\n5.png,a,p1,\n5.png,b,p1,\nnone.png,a,p1,\n",
    )
    manifest = shard_source(source, tmp_path, classes=("b", "a"))
    assert manifest.class_counts == (1, 2)
    reasons = rejections(tmp_path)
    assert reasons["2.png"] == "label 'c' is none of b, a"
    assert "3.png" not in reasons
    assert reasons["4.png"] == "x 'near' is not a whole number"
    assert "not a plain path in the root" in reasons["../out.png"]
    assert "absolute, and not in the root; name the folder of" in reasons["/etc/passwd"]
    assert reasons["5.png"] == "named in lines 9, 10"
    assert "cannot be read" in reasons["none.png"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("./0.png,a,p1,", "not a plain path in the root"),
        ("a//0.png,a,p1,", "not a plain path in the root"),
        ("0.png\0,a,p1,", "not a plain path in the root"),
        ("out.png,a,p1,", "a link out of the folder"),
        ("0.png,a,p1,later", "split 'later' is none of train, valid"),
    ],
)
def test_a_row_that_could_mislead_is_rejected(tmp_path: Path, row: str, reason: str) -> None:
    source = write_csv_source(
        tmp_path / "set", f"path,label,patient,split\n1.png,a,p1,val\n2.png,b,p2,\n{row}\n"
    )
    Image.fromarray(synthetic_patches(1, 20)[0]).save(tmp_path / "elsewhere.png")
    (tmp_path / "set" / "out.png").symlink_to(tmp_path / "elsewhere.png")
    manifest = shard_source(source, tmp_path)
    assert (manifest.rows, manifest.rejected) == (2, 1)
    assert reason in next(iter(rejections(tmp_path).values()))
    assert shard_columns(tmp_path, "split")["split"] == ["valid", ""]


@pytest.mark.parametrize("is_root_named", [True, False])
def test_an_absolute_path_in_the_root_is_stored_relative_to_it(
    tmp_path: Path, is_root_named: bool
) -> None:
    folder = tmp_path / "set"
    text = f"path,label,patient\n{folder}/0.png,a,p1\n1.png,b,p2\n"
    source = write_csv_source(folder, text)
    options = {}
    if is_root_named:
        source = source.rename(tmp_path / "list.csv")
        options = {"root": str(folder)}
    manifest = shard_source(source, tmp_path, **options)
    assert (manifest.rows, manifest.rejected) == (2, 0)
    assert shard_columns(tmp_path, "source")["source"] == ["0.png", "1.png"]


def test_a_root_may_be_named_by_a_link_and_the_paths_by_its_target(tmp_path: Path) -> None:
    folder, link = tmp_path / "set", tmp_path / "link"
    link.symlink_to(folder)
    text = f"path,label,patient\n{folder}/0.png,a,p1\n{link}/1.png,b,p2\n"
    source = write_csv_source(folder, text).rename(tmp_path / "list.csv")
    assert shard_source(source, tmp_path, root=str(link)).rows == 2


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("{top}/elsewhere.png", "absolute, and not in the root"),
        ("{top}/set2/0.png", "absolute, and not in the root"),
        ("{top}/set/../elsewhere.png", "not a plain path in the root"),
        ("{top}/set/out.png", "a link out of the folder"),
        ("{top}/set//0.png", "absolute, and not in the root"),
        ("{top}/set/./0.png", "not a plain path in the root"),
        ("s3://bucket/0.png", "absolute, and not in the root"),
        ("{top}/set/1.png", "named in lines 2, 4"),
    ],
)
def test_a_path_that_leads_out_of_the_root_is_rejected(
    tmp_path: Path, path: str, reason: str
) -> None:
    path = path.format(top=tmp_path)
    text = f"path,label,patient\n1.png,a,p1\n2.png,b,p2\n{path},a,p1\n"
    source = write_csv_source(tmp_path / "set", text).rename(tmp_path / "list.csv")
    Image.fromarray(synthetic_patches(1, 20)[0]).save(tmp_path / "elsewhere.png")
    (tmp_path / "set" / "out.png").symlink_to(tmp_path / "elsewhere.png")
    manifest = shard_source(source, tmp_path, root=str(tmp_path / "set"))
    assert manifest.rows == 3 - manifest.rejected
    assert reason in next(iter(rejections(tmp_path).values()))


def test_a_root_needs_a_csv_file_and_a_folder(tmp_path: Path) -> None:
    source = write_csv_source(tmp_path / "set", "path,label,patient\n0.png,a,p1\n")
    with pytest.raises(DataError, match="no such folder"):
        shard_source(source, tmp_path, root=str(tmp_path / "none"))
    with pytest.raises(DataError, match="--root: has no effect with format folder, only with csv"):
        shard_source(tmp_path / "set", tmp_path, "folder", root=str(tmp_path))


@given(st.lists(st.lists(FIELDS, min_size=3, max_size=4), max_size=6), st.booleans())
def test_any_csv_file_is_listed_or_rejected_and_each_row_is_accounted_for(
    rows: list[list[str]], quoted: bool
) -> None:
    text = io.StringIO(newline="")
    if quoted:
        csv.writer(text).writerows([["path", "label", "patient", "x"], *rows])
    else:
        text.write("\n".join(["path,label,patient,x", *(",".join(row) for row in rows)]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.csv"
        path.write_text(text.getvalue(), encoding="utf-8", newline="")
        try:
            listing = list_csv(str(path), SourceOptions())
        except DataError:
            return
    files = [item.file for item in listing.items]
    assert len(set(files)) == len(files)
    assert all(item.patient for item in listing.items)
    assert not any(".." in file.split("/") or file.startswith("/") for file in files)
    if quoted and all(len(row) == 4 for row in rows):
        assert len(files) + len(listing.rejected) == len(rows)
