"""The maps of all slides beside the scores of a prediction."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from raysearch.cli import run
from raysearch.reports.slide_map import POSITIVE_COLOR

pytestmark = pytest.mark.filterwarnings("ignore")


def read_image(path: str) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


def test_every_slide_has_maps_whose_frames_are_the_positive_decisions(
    studies: str, image_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert studies
    out = tmp_path / "out"
    words = ["predict", "first", str(image_folders / "idc"), str(out), "--maps"]
    assert run([*words, "--json"]) == 0
    with (out / "maps" / "maps.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    scores = pq.read_table(out / "scores.parquet").to_pylist()
    patients = sorted({row["patient"] for row in scores})
    assert json.loads(capsys.readouterr().out)["num_maps"] == len(records) == len(patients)
    for record in records:
        rows = [row for row in scores if row["patient"] == record["patient"]]
        assert int(record["patches"]) == len(rows)
        positive = [row for row in rows if row["decision"] == "positive"]
        assert int(record["framed"]) == len(positive)
        stem = out / "maps" / record["file"]
        image = read_image(f"{stem}-frames.png")
        assert read_image(f"{stem}-probability.png").shape == image.shape
        left, top = (min(row[axis] for row in rows) for axis in ("x", "y"))
        corners = [image[row["y"] - top, row["x"] - left].tolist() for row in positive]
        assert corners == [list(POSITIVE_COLOR)] * len(positive)
        features = json.loads(Path(f"{stem}.geojson").read_text())["features"]
        assert len(features) == len(rows)
    # The scores are complete: the same command writes the maps only.
    shutil.rmtree(out / "maps")
    assert run(words) == 0
    assert f"of {len(records)} slides in" in capsys.readouterr().err.replace("\n", "")
    assert len(list((out / "maps").iterdir())) == 1 + 3 * len(records)


def test_maps_of_patches_without_positions_are_rejected_in_one_line(
    studies: str, image_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert studies
    images = tmp_path / "images"
    images.mkdir()
    for number, path in enumerate(sorted((image_folders / "idc").rglob("*.png"))[:4]):
        shutil.copy(path, images / f"image{number}.png")
    assert run(["predict", "first", str(images), str(tmp_path / "out"), "--maps"]) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("raysearch: --maps: no patch has a position")
    assert (tmp_path / "out" / "scores.csv").is_file()
    assert not (tmp_path / "out" / "maps").exists()
