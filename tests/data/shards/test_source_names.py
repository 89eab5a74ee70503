"""Sharding with pseudonyms: no name of the source is in anything that is written."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raysearch.cli import run
from raysearch.data.files import Folder
from raysearch.data.pseudonyms import FILE, PATIENT, PseudonymKey, read_key_file
from raysearch.data.shards.shard_manifest import read_manifest
from raysearch.data.shards.sharding import write_shards
from raysearch.data.shards.source_names import SourceNames
from raysearch.data.sources.listing import Rejected
from raysearch.errors import DataError

KEY = PseudonymKey(bytes(range(32)))
MISPLACED = "patient ... in its name, folder ..."
# The number is too long to occur by chance among the digits of a hash.
PATIENTS = ("smith-anna", "jones-bob", "miller-carl", "20260988638863")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A CSV file in a folder with a name, with 12 patches and 3 files that are rejected."""
    folder = tmp_path / "university-hospital" / "cohort"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["path,label,patient,slide,x,y"]
    for number in range(12):
        patient = PATIENTS[number % 4]
        path = f"{patient}_{number}.png"
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(folder / path)
        lines.append(f"{path},{number % 2},{patient},{patient}-slide,{number},0")
    (folder / "smith-anna-99.png").write_text("no image")
    lines.append("smith-anna-99.png,1,smith-anna,,0,0")
    lines.append("jones-bob-77.png,1,jones-bob,,jones,0")
    lines.append("miller-carl-gone.png,1,miller-carl,,0,0")
    (folder / "smith-table.csv").write_text("\n".join(lines) + "\n")
    return folder / "smith-table.csv"


def test_nothing_that_is_written_has_a_name_of_the_source(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(["shard", str(source), str(out), "--pseudonyms", str(tmp_path / "key")]) == 0
    words = [*PATIENTS, "smith", "jones", "miller", "hospital", "cohort", str(tmp_path)]
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert [word for word in words if word.encode() in content] == [], path
    with (out / "rejected.csv").open() as file:
        rejected = list(csv.DictReader(file))
    assert {row["file"][-4:] for row in rejected} == {".png"}
    assert sorted(row["reason"] for row in rejected) == [
        "cannot be read: No such file or directory",
        "not an image",
        "x '...' is not a whole number",
    ]


def test_each_row_has_the_pseudonyms_of_its_names(source: Path, tmp_path: Path) -> None:
    plain, hidden = tmp_path / "plain", tmp_path / "hidden"
    write_shards(str(source), plain, None, workers=1)
    write_shards(str(source), hidden, None, names=SourceNames(KEY), workers=2)
    columns = ["sha256", "patient", "slide", "source", "label", "x"]
    by_hash = {
        row["sha256"]: row
        for row in pq.read_table(plain / "part-00000.parquet", columns=columns).to_pylist()
    }
    rows = pq.read_table(hidden / "part-00000.parquet", columns=columns).to_pylist()
    assert len(rows) == len(by_hash) == 12
    for row in rows:
        own = by_hash[row["sha256"]]
        assert row["patient"] == KEY.pseudonym(PATIENT, own["patient"])
        assert row["source"] == KEY.pseudonym(FILE, own["source"])
        assert row["slide"].startswith("S-")
        assert (row["label"], row["x"]) == (own["label"], own["x"])
    # The order of the rows must not tell the order of the names.
    assert [row["patient"] for row in rows] == sorted(row["patient"] for row in rows)
    manifests = [read_manifest(Folder(folder)) for folder in (plain, hidden)]
    assert [manifest.pseudonyms for manifest in manifests] == ["", KEY.id]
    assert manifests[0].patients == manifests[1].patients == 4


def test_the_same_key_gives_the_same_pseudonyms_in_several_shardings(
    source: Path, tmp_path: Path
) -> None:
    patients = []
    for name, key_file in (("a", "key"), ("b", "key"), ("c", "other")):
        words = ["--pseudonyms", str(tmp_path / key_file)]
        assert run(["shard", str(source), str(tmp_path / name), *words]) == 0
        table = pq.read_table(tmp_path / name / "part-00000.parquet", columns=["patient"])
        patients.append(set(table["patient"].to_pylist()))
    assert patients[0] == patients[1]
    assert not patients[0] & patients[2]
    key = read_key_file(tmp_path / "key")
    assert {key.pseudonym(PATIENT, name) for name in PATIENTS} == patients[0]


def test_a_key_that_others_can_read_or_beside_the_shards_is_rejected(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read_key_file(tmp_path / "key")
    (tmp_path / "key").chmod(0o644)
    for key, reason in (
        ("key", "other users can read"),
        ("out/key", "in the folder of the shards"),
    ):
        words = ["--pseudonyms", str(tmp_path / key)]
        assert run(["shard", str(source), str(tmp_path / "out"), *words]) == 2
        error = capsys.readouterr().err
        assert reason in error
        assert error.count("\n") == 1
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "reason", "expected"),
    [
        (
            "8863/1/9_idx5.png",
            "patient 9 in its name, folder 8863",
            "patient ... in its name, folder ...",
        ),
        (
            "Smith/Jones_1.png",
            "patient Jones in its name, folder Smith",
            "patient ... in its name, folder ...",
        ),
        ("a/b.png", "class 'smith' is none of x, y", "class '...' is none of x, y"),
        ("images/a.gif", "not one of .png, .jpg", "not one of .png, .jpg"),
        ("patients/a.png", "no patient", "no patient"),
    ],
)
def test_the_reason_of_a_rejection_names_nothing_of_the_file(
    file: str, reason: str, expected: str
) -> None:
    converted = SourceNames(KEY).rejected(Rejected(file, reason)).reason
    assert converted == expected
    assert SourceNames().rejected(Rejected(file, reason)) == Rejected(file, reason)


def test_a_warning_names_no_file_of_the_source(tmp_path: Path) -> None:
    for number, label in enumerate(("a", "b")):
        folder = tmp_path / "source" / label
        folder.mkdir(parents=True)
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "mueller1961 [x=1,y=2,w=8,h=8].png")
    out, key = tmp_path / "out", tmp_path / "key"
    words = ("shard", str(tmp_path / "source"), str(out), "--format", "folder")
    assert run([*words, "--pseudonyms", str(key)]) == 0
    (warning,) = [text for text in read_manifest(Folder(out)).warnings if "position" in text]
    assert warning.endswith("such as '...'; check that both are right")
    assert not [path for path in out.rglob("*.*") if b"mueller" in path.read_bytes()]


def test_a_pipe_is_no_key_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key")
    with pytest.raises(DataError, match="a pipe or a device"):
        read_key_file(tmp_path / "key")
