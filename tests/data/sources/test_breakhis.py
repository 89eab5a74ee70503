"""BreakHis is grouped by patient and has five tasks."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from raysearch.data.shards.patches import load_patches
from raysearch.data.shards.rows import View, load_rows
from raysearch.data.shards.sharding import write_shards
from raysearch.data.sources import detect_format
from raysearch.data.sources.breakhis import FILE_NAME, parse_breakhis_path
from raysearch.data.sources.listing import Item, Rejected, SourceOptions
from raysearch.errors import DataError
from support.source_images import synthetic_patches

CODES = {"adenosis": "B_A", "fibroadenoma": "B_F", "ductal_carcinoma": "M_DC"}


def write_breakhis(folder: Path) -> None:
    """Write 18 images of 6 patients."""
    for subtype, code in CODES.items():
        kind = "benign" if code[0] == "B" else "malignant"
        for number, letters in ((1, "AB"), (1, "CD"), (2, "")):
            for magnification in (40, 400):
                slide = f"SOB_{code}-14-{len(subtype)}{number}{letters}"
                directory = folder / kind / "SOB" / subtype / slide / f"{magnification}X"
                directory.mkdir(parents=True)
                image = Image.fromarray(synthetic_patches(1, 32)[0])
                image.save(directory / f"{slide}-{magnification}-001.png")


def test_the_patient_is_the_number_without_letters_and_there_are_five_tasks(
    tmp_path: Path,
) -> None:
    top = tmp_path / "BreaKHis_v1"
    source = top / "histology_slides" / "breast"
    write_breakhis(source)
    assert detect_format(str(top), "x") == detect_format(str(source), "x") == "breakhis"
    manifest = write_shards(str(top), tmp_path / "out", None, size=(32, 32), workers=1)
    assert (manifest.format, manifest.rows, manifest.patients) == ("breakhis", 18, 6)
    assert manifest.class_counts == (12, 6)
    out = str(tmp_path / "out")
    counts = {
        task: np.bincount(load_rows(out, View(task)).labels).tolist()
        for task in manifest.task_names
    }
    assert counts == {
        "label": [12, 6],
        "benign_subtype": [6, 6],
        "malignant_subtype": [6],
        "subtype": [6, 6, 0, 0, 6],
        "magnification": [9, 0, 0, 9],
    }
    malignant = load_patches(out, tmp_path / "cache", View("malignant_subtype"))
    assert malignant.class_names[0] == "ductal_carcinoma"
    assert len(malignant.pixels) == 6
    with pytest.raises(DataError, match="these shards have label, benign_subtype"):
        load_rows(out, View("colour"))
    options = SourceOptions(magnifications=(40,))
    at_40 = write_shards(
        str(source), tmp_path / "at_40", None, size=(32, 32), options=options, workers=1
    )
    assert at_40.rows == at_40.files == 9


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("malignant/SOB_B_A-14-22549AB-40-001.png", "benign in its name, folder malignant"),
        ("fibroadenoma/SOB_B_A-14-22549AB-40-001.png", "adenosis in its name"),
        ("100X/SOB_B_A-14-22549AB-40-001.png", "magnification 40 in its name"),
        ("SOB_M_A-14-22549AB-40-001.png", "type A is not malignant"),
        ("SOB_B_A_14-22549AB-40-001.png", "not named"),
    ],
)
def test_a_name_that_contradicts_its_folder_is_rejected(path: str, reason: str) -> None:
    entry = parse_breakhis_path(path)
    assert isinstance(entry, Rejected)
    assert reason in entry.reason


@given(
    st.sampled_from(["B_A", "B_F", "B_PT", "B_TA", "M_DC", "M_LC", "M_MC", "M_PC"]),
    st.integers(0, 99),
    st.integers(0, 10**6),
    st.text("ABCDEFG", max_size=3),
    st.sampled_from([40, 100, 200, 400]),
    st.integers(0, 999),
)
def test_every_official_name_is_parsed(
    code: str, year: int, number: int, letters: str, magnification: int, sequence: int
) -> None:
    name = f"SOB_{code}-{year:02d}-{number}{letters}-{magnification}-{sequence:03d}.png"
    assert FILE_NAME.fullmatch(name)
    entry = parse_breakhis_path(name)
    assert isinstance(entry, Item)
    assert (entry.patient, entry.magnification) == (str(number), magnification)


@given(st.text(max_size=60))
def test_any_other_name_is_rejected_without_an_exception(name: str) -> None:
    entry = parse_breakhis_path(name)
    assert isinstance(entry, Item) == (FILE_NAME.fullmatch(name.rpartition("/")[2]) is not None)
