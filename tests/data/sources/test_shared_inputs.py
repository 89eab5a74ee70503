"""The odd inputs of the shared folder become the right shards, by the right answer of each."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysearch.cli import run
from raysearch.data.shards.shard_manifest import Manifest
from raysearch.data.shards.sharding import write_shards

pytestmark = pytest.mark.slow
CLASSES, LETTERS = ("benign", "malignant"), ("a", "b")


@dataclass(frozen=True)
class Right:
    """What is right for an input.

    Args:
        rows: Its patches.
        classes: Its classes.
        rejected: Its rejected files.
        columns: The different values of some columns.
        image_changes: What was changed in how many images.
    """

    rows: int
    classes: tuple[str, ...] = LETTERS
    rejected: int = 0
    columns: dict[str, set[str]] = field(default_factory=dict)
    image_changes: dict[str, int] = field(default_factory=dict)


RIGHT = {
    "capital_splits": Right(16, CLASSES, columns={"split": {"train", "test"}}),
    "hidden_folder": Right(16, CLASSES, 1, columns={"split": {"train", "test"}}),
    "checkpoints": Right(8, CLASSES, columns={"split": {""}}),
    "mac.zip": Right(8, CLASSES),
    "twice.zip": Right(4, rejected=1),
    "backslash.zip": Right(6),
    "ds_store": Right(6, ("negative", "positive"), columns={"patient": {"8863", "8864", "8865"}}),
    "blanks/labels.csv": Right(42, CLASSES),
    "bom/labels.csv": Right(6, CLASSES, columns={"patient": {f"P{n}" for n in range(6)}}),
    "formula/labels.csv": Right(6, CLASSES),
    "sixteen": Right(4, rejected=2),
    "alpha": Right(5, image_changes={"transparency replaced by white": 1}),
    "turned": Right(7, image_changes={"EXIF orientation applied": 3}),
    "pages": Right(4, rejected=1),
    "mpo": Right(5, image_changes={"first of several pictures": 1}),
    "unicode": Right(12, ("Gewebe \u00e4", "other")),
    "double::colon": Right(6),
    "qupath": Right(6, ("stroma", "tumour"), columns={"slide": {"slide 7"}}),
}


@pytest.fixture(scope="module")
def odd_inputs(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("odd") / "inputs"
    script = shared / "tools" / "odd_inputs.py"
    subprocess.run([sys.executable, "-W", "ignore", str(script), str(out)], check=True)
    return out


def shard_input(odd_inputs: Path, name: str, out: Path) -> tuple[Manifest, pa.Table]:
    command = json.loads((odd_inputs / "expected.json").read_text())[name]["command"]
    source_format = command.partition("--format ")[2] or "csv"
    manifest = write_shards(str(odd_inputs / name), out, source_format, workers=1)
    tables = [pq.read_table(out / shard.name) for shard in manifest.shards]
    return manifest, pa.concat_tables(tables)


def test_every_odd_input_is_checked(odd_inputs: Path) -> None:
    names = json.loads((odd_inputs / "expected.json").read_text())
    assert set(names) == {*RIGHT, "ids_zeros.csv", "ids_long.csv", "set_two"}


@pytest.mark.parametrize("name", RIGHT)
def test_an_odd_input_becomes_the_right_shards(odd_inputs: Path, tmp_path: Path, name: str) -> None:
    manifest, table = shard_input(odd_inputs, name, tmp_path / "shards")
    right = RIGHT[name]
    assert (manifest.rows, manifest.rejected) == (right.rows, right.rejected)
    assert manifest.classes_of("label") == right.classes
    assert manifest.image_changes == right.image_changes
    for column, values in right.columns.items():
        assert set(table[column].to_pylist()) == values


def test_blanks_of_a_table_are_no_patient_and_trailing_blanks_are_trimmed(
    odd_inputs: Path, tmp_path: Path
) -> None:
    _manifest, table = shard_input(odd_inputs, "blanks/labels.csv", tmp_path / "shards")
    patients = table["patient"].to_pylist()
    named = {patient: patients.count(patient) for patient in ("P1", "P2", "P3", "nan")}
    assert named["P1"] == 12
    assert all(named.values())
    others = [patient for patient in patients if patient not in named]
    assert len(others) == len(set(others)) == 12


@pytest.mark.parametrize(("name", "num_patients"), [("ids_zeros.csv", 4), ("ids_long.csv", 3)])
def test_identifiers_that_look_like_numbers_stay_texts(
    odd_inputs: Path, tmp_path: Path, name: str, num_patients: int
) -> None:
    page = tmp_path / "page.html"
    assert run(["report", str(odd_inputs / name), "--out", str(page)]) == 0
    assert f"{num_patients * 6} patches of {num_patients} patients" in page.read_text()
