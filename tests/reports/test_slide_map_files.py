"""The maps of all slides beside the scores of a prediction."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from raysearch.cli import run
from raysearch.data.files import Folder
from raysearch.data.shards.sharding import write_shards
from raysearch.data.slides.slide_options import SlideOptions
from raysearch.data.sources.listing import SourceOptions
from raysearch.data.step_progress import ignore_progress
from raysearch.inference.image_rendering import viridis
from raysearch.inference.model_loading import load_model
from raysearch.inference.prediction import SCORES, predict
from raysearch.inference.score_sources import open_source
from raysearch.reports.slide_map import POSITIVE_COLOR
from raysearch.reports.slide_map_files import write_slide_maps
from support.scanned_slides import paint, write_tiff

SIDE = 50

pytestmark = pytest.mark.filterwarnings("ignore")


def read_image(path: str) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


def test_every_slide_has_maps_whose_frames_are_the_positive_decisions(
    studies: str, image_folders: Path, tmp_path: Path
) -> None:
    out, images = tmp_path / "out", image_folders / "idc"
    assert run(["predict", "first", str(images), str(tmp_path / "first")]) == 0
    threshold = float(np.median(pq.read_table(tmp_path / "first" / SCORES)["score_positive"]))
    model = load_model("first", studies)
    artifact = replace(model.artifact, threshold=threshold)
    options = SourceOptions(scratch=tmp_path)
    source = open_source(str(images), None, "label", artifact.shape, options)
    predict(replace(model, artifact=artifact), source, Folder(out), ignore_progress)
    num_maps = write_slide_maps(source, Folder(out), artifact.shape, artifact.class_names)
    with (out / "maps" / "maps.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    scores = pq.read_table(out / SCORES).to_pylist()
    assert num_maps == len(records) == len({row["patient"] for row in scores})
    decisions = [row["decision"] for row in scores]
    assert 20 <= decisions.count("positive") <= 40
    # The decision is not always the class of the highest probability.
    assert decisions != [row["class"] for row in scores]
    for record in records:
        rows = [row for row in scores if row["patient"] == record["patient"]]
        check_maps(record, rows, out / "maps" / record["file"], images)
    assert len(list((out / "maps").iterdir())) == 1 + 3 * len(records)


def check_maps(
    record: dict[str, str], rows: list[dict[str, Any]], stem: Path, images: Path
) -> None:
    """Compare the maps of a slide with the rows of its scores and its images."""
    assert int(record["patches"]) == len(rows)
    assert int(record["framed"]) == [row["decision"] for row in rows].count("positive")
    frames, heatmap = read_image(f"{stem}-frames.png"), read_image(f"{stem}-probability.png")
    features = json.loads(Path(f"{stem}.geojson").read_text())["features"]
    left, top = (min(row[axis] for row in rows) for axis in ("x", "y"))
    for row, feature in zip(rows, features, strict=True):
        x, y = row["x"] - left, row["y"] - top
        region = (slice(y, y + SIDE), slice(x, x + SIDE))
        patch = read_image(str(images / row["path"]))
        is_framed = frames[y, x + 10].tolist() == list(POSITIVE_COLOR)
        assert is_framed == (row["decision"] == "positive")
        inside = (slice(4, SIDE - 4),) * 2
        assert (frames[region][inside] == patch[inside]).all()
        # Half of the color is that of the probability, half that of the patch.
        color = viridis(np.full((1, 1), row["score_positive"], np.float32))
        assert np.abs(heatmap[region] - (patch.astype(np.float64) + color) / 2).max() <= 1
        assert feature["properties"]["classification"]["name"] == row["decision"]
        corners = feature["geometry"]["coordinates"][0]
        assert corners[0] == [row["x"] - 1, row["y"] - 1]  # IDC counts from 1
        assert corners[2] == [row["x"] - 1 + SIDE, row["y"] - 1 + SIDE]


def test_complete_scores_get_maps_by_the_same_command(
    studies: str, image_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert studies
    out = tmp_path / "out"
    words = ["predict", "first", str(image_folders / "idc"), str(out), "--maps"]
    assert run([*words, "--json"]) == 0
    num_maps = json.loads(capsys.readouterr().out)["num_maps"]
    shutil.rmtree(out / "maps")
    assert run(words) == 0
    assert f"of {num_maps} slides in" in capsys.readouterr().err.replace("\n", "")
    assert len(list((out / "maps").iterdir())) == 1 + 3 * num_maps


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


def test_maps_are_not_written_through_a_link(
    studies: str, image_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out, other = str(image_folders / "idc"), tmp_path / "out", tmp_path / "other"
    assert run(["predict", "first", images, str(out), "--studies", studies]) == 0
    other.mkdir()
    (other / "maps.csv").write_text("mine")
    (out / "maps").symlink_to(other)
    command = ["predict", "first", images, str(out), "--studies", studies, "--maps"]
    assert run(command) == 2
    assert "a link; remove it" in capsys.readouterr().err
    assert [path.name for path in other.iterdir()] == ["maps.csv"]


def test_scores_of_other_patches_are_not_drawn(
    studies: str, image_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert studies
    images, out = tmp_path / "images", tmp_path / "out"
    shutil.copytree(image_folders / "idc", images)
    assert run(["predict", "first", str(images), str(out)]) == 0
    # The scores are kept for the source, whose fingerprint does not have the pixels.
    first, *_others, last = pq.read_table(out / "scores.parquet")["path"].to_pylist()
    for path in (first, last):
        content = (images / path).read_bytes()
        (images / path).write_bytes(b"")
        capsys.readouterr()
        assert run(["predict", "first", str(images), str(out), "--maps"]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("raysearch: --maps: the scores are of other patches than")
        assert not (out / "maps").exists()
        (images / path).write_bytes(content)


def test_patches_that_were_scaled_do_not_fit_their_positions(
    studies: str, image_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert studies
    images, out = tmp_path / "images", tmp_path / "out"
    shutil.copytree(image_folders / "idc", images)
    path = sorted(images.rglob("*.png"))[-1]
    with Image.open(path) as image:
        large, small = image.resize((2 * SIDE, 2 * SIDE)), image.crop((0, 0, SIDE, 20))
    large.save(path)
    assert run(["predict", "first", str(images), str(out), "--maps"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"--maps: {path.relative_to(images)} was scaled to 50x50 pixels" in error
    assert not (out / "maps").exists()
    small.save(path)  # as at the edge of a slide
    assert run(["predict", "first", str(images), str(tmp_path / "padded"), "--maps"]) == 0


def test_tiles_of_slides_touch_in_their_maps(studies: str, tmp_path: Path) -> None:
    assert studies
    (tmp_path / "slides").mkdir()
    tissue = [(0, 0), (800, 0), (800, 600), (0, 600)]
    write_tiff(tmp_path / "slides" / "a.tiff", paint((800, 600), [tissue], []), 0.25)
    # A pixel of the tiles is 1.88 pixels of level 0.
    options = SourceOptions(slides=SlideOptions(mpp=0.47, size=(SIDE, SIDE)))
    shards = tmp_path / "shards"
    manifest = write_shards(str(tmp_path / "slides"), shards, "slides", options=options, workers=1)
    assert manifest.rows == 8 * 6
    out = tmp_path / "out"
    assert run(["predict", "first", str(shards), str(out), "--maps"]) == 0
    with (out / "maps" / "maps.csv").open(newline="") as file:
        (record,) = csv.DictReader(file)
    heatmap = read_image(f"{out}/maps/{record['file']}-probability.png")
    assert heatmap.shape == (6 * SIDE, 8 * SIDE, 3)
    assert not (heatmap == 255).all(axis=2).any()  # white between the tiles
    collection = json.loads((out / "maps" / f"{record['file']}.geojson").read_text())
    corners = [feature["geometry"]["coordinates"][0] for feature in collection["features"]]
    assert len(corners) == 48
    for corner, _right, opposite, *_rest in corners:
        assert [value % 94 for value in corner] == [0, 0]
        assert np.subtract(opposite, corner) == pytest.approx([94, 94])
