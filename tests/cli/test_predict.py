"""`raysearch predict`: the tables that it writes, its overlays, and what it rejects."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from raysearch.cli import run
from raysearch.data.shards.sharding import write_shards
from support.score_tables import read_scores

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.usefixtures("studies")
def test_images_have_the_scores_of_their_shards_and_the_table_names_each_image(
    image_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
    assert "contains scores of another model or source" in capsys.readouterr().err
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
        (["first", str(tmp_path / "empty")], "no image in it"),
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
