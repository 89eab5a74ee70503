"""`raysearch predict`: the tables that it writes, its overlays, and what it rejects."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from raysearch.cli import run
from raysearch.data.shards.sharding import write_shards
from raysearch.inference.model_loading import load_model
from support.score_tables import read_scores

pytestmark = pytest.mark.filterwarnings("ignore")


def scores_of(table: pa.Table, column: str) -> NDArray[np.float64]:
    scores: NDArray[np.float64] = table[column].to_numpy()
    return scores


def champion_threshold(studies: str) -> float:
    threshold = load_model("first", studies).artifact.threshold
    assert threshold is not None
    return threshold


def test_images_have_the_scores_of_their_shards_and_the_table_names_each_image(
    studies: str, image_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = image_folders / "idc", tmp_path / "out"
    assert run(["predict", "first", str(images), str(out)]) == 0
    assert capsys.readouterr().out.startswith("60 patches in ")
    write_shards(str(images), tmp_path / "shards", "idc", workers=1)
    assert run(["predict", "first", str(tmp_path / "shards"), str(tmp_path / "from_shards")]) == 0
    scores = read_scores(out)
    assert np.allclose(scores, read_scores(tmp_path / "from_shards"), atol=1e-6)
    assert np.allclose(scores.sum(axis=1), 1)
    table = pq.read_table(out / "scores.parquet")
    assert set(table["label"].to_pylist()) == {"negative", "positive"}
    assert set(table["y"].to_pylist()) == {51}
    is_positive = scores_of(table, "score_positive") >= champion_threshold(studies)
    assert table["decision"].to_pylist() == [
        "positive" if positive else "negative" for positive in is_positive
    ]
    highest = np.maximum(scores_of(table, "score_negative"), scores_of(table, "score_positive"))
    assert scores_of(table, "probability").tolist() == highest.tolist()
    with (out / "scores.csv").open() as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    assert paths == table["path"].to_pylist()
    with (out / "rejected.csv").open() as file:
        assert [row["file"] for row in csv.DictReader(file)] == ["note.txt"]
    assert sorted(path.name for path in out.iterdir()) == [
        *("rejected.csv", "scores.csv", "scores.parquet")
    ]


@pytest.mark.usefixtures("studies")
def test_images_without_labels_have_the_same_scores(image_folders: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(["predict", "first", str(image_folders / "plain"), str(out)]) == 0
    table = pq.read_table(out / "scores.parquet")
    assert set(table["label"].to_pylist()) == {None}
    assert set(table["patient"].to_pylist()) == {"slide 1"}
    assert run(["predict", "first", str(image_folders / "idc"), str(tmp_path / "labeled")]) == 0
    assert np.allclose(read_scores(out), read_scores(tmp_path / "labeled"), atol=1e-6)


@pytest.mark.usefixtures("studies")
def test_scores_of_another_model_or_source_are_not_overwritten(
    image_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = str(image_folders / "idc"), tmp_path / "out"
    assert run(["predict", "first", images, str(out)]) == 0
    before = (out / "scores.parquet").read_bytes()
    assert run(["predict", "first", str(image_folders / "plain"), str(out)]) == 2
    assert (
        "contains scores of another model, source or version of raysearch"
        in capsys.readouterr().err
    )
    assert (out / "scores.parquet").read_bytes() == before
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("x")
    assert run(["predict", "first", images, str(tmp_path / "thesis")]) == 2
    assert "contains other files" in capsys.readouterr().err


@pytest.mark.usefixtures("studies")
def test_what_cannot_be_predicted_is_rejected(
    image_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = str(image_folders / "idc"), str(tmp_path / "out")
    write_shards("4:40:2", tmp_path / "large", "synthetic", size=(64, 64), workers=1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "MLmodel").write_text("flavors: {}")
    for words, message in (
        (["first", str(tmp_path / "large")], "but the model takes 50x50"),
        (["first", str(tmp_path / "empty")], "no files in it"),
        (["first", str(tmp_path / "missing")], "no such folder"),
        (["unknown", images], "no model; name a study in"),
        ([str(tmp_path / "other"), images], "loading it would run code from its files"),
        (["models:/unknown@champion", images], "cannot be loaded from"),
        (["models:/first", images], "models:/NAME@champion"),
        (["--workers", "-1", "first", images], "--workers -1: must be at least 0"),
    ):
        assert run(["predict", *words, out]) == 2, words
        assert message in capsys.readouterr().err
    assert not Path(out).exists()


@pytest.mark.usefixtures("studies")
def test_overlays_show_the_errors_with_the_highest_confidence(
    image_folders: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["predict", "first", str(image_folders / "idc"), str(out)]
    assert run([*words, "--explain", "5"]) == 0
    table = pq.read_table(out / "scores.parquet")
    is_positive = table["score_positive"].to_numpy() > 0.5
    predicted = np.array(["negative", "positive"])[is_positive.astype(int)]
    num_errors = int((predicted != np.array(table["label"].to_pylist())).sum())
    overlays = sorted((out / "explain").iterdir())
    assert len(overlays) == min(5, num_errors)
    confidences = [float(path.name.split("-")[2]) for path in overlays]
    assert confidences == sorted(confidences, reverse=True)
    image = cv2.imread(str(overlays[0]))
    assert image is not None
    assert image.shape == (200, 404, 3)
    frame_pixels = (image[:, 204:] == 255).all(axis=2)
    assert frame_pixels.any()


@pytest.mark.slow
@pytest.mark.usefixtures("studies")
def test_ray_workers_give_the_same_scores(
    image_folders: Path, tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysearch.inference.score_sources.BATCH_SIZE", 25)
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    words = ["predict", "first", str(image_folders / "idc")]
    assert run([*words, str(tmp_path / "local")]) == 0
    assert run([*words, str(tmp_path / "workers"), "--workers", "2"]) == 0
    local, workers = read_scores(tmp_path / "local"), read_scores(tmp_path / "workers")
    assert np.allclose(local, workers, atol=1e-6)


@pytest.mark.usefixtures("studies")
def test_a_zip_of_images_without_labels_is_predicted_with_the_patients_of_a_pattern(
    image_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.make_archive(str(tmp_path / "plain"), "zip", image_folders / "plain")
    words = ["--patient", "/([^_/]+)_idx5"]
    for name, source in (("zip", tmp_path / "plain.zip"), ("folder", image_folders / "plain")):
        assert run(["predict", "first", str(source), str(tmp_path / name), *words]) == 0
    assert np.array_equal(read_scores(tmp_path / "zip"), read_scores(tmp_path / "folder"))
    table = pq.read_table(tmp_path / "zip" / "scores.parquet")
    assert len(set(table["patient"].to_pylist())) == 6
    capsys.readouterr()
    write_shards("4:40:2", tmp_path / "shards", "synthetic", workers=1)
    shards, out = str(tmp_path / "shards"), str(tmp_path / "out")
    assert run(["predict", "first", shards, out, *words]) == 2
    assert "--patient: has no effect with shards" in capsys.readouterr().err


@pytest.mark.usefixtures("studies")
def test_scores_unlike_those_of_the_training_set_give_a_note(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", "first", str(shards), str(tmp_path / "same")]) == 0
    assert "Note" not in capsys.readouterr().err
    generator = np.random.default_rng(0)
    for patient in range(12):
        folder = tmp_path / "dark" / f"slide {patient}"
        folder.mkdir(parents=True)
        for number in range(8):
            pixels = generator.integers(0, 30, (50, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    assert run(["predict", "first", str(tmp_path / "dark"), str(tmp_path / "out")]) == 0
    (note,) = [line for line in capsys.readouterr().err.splitlines() if "Note" in line]
    assert "the scores are distributed unlike those of the training set" in note
    assert "12 patients" in note
    assert run(["predict", "first", str(tmp_path / "dark"), str(tmp_path / "out"), "--json"]) == 0
    (json_note,) = json.loads(capsys.readouterr().out)["notes"]
    assert json_note in note
