"""A study of slides, from the files of their features to predictions, a report and MLflow."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from conftest import Commands
from raysearch.models.bags.slide_feature_files import read_feature_file
from raysearch.search.study.stored_study import load_study
from support.launched_studies import study
from support.slide_files import num_tumor_patches, write_slides

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
NUM_SLIDES = 60
SPACE = """
epochs: 6
trials: 3
seed: 1
repeats: 1
space:
  folds: 2
  architecture: abmil
  embedding_units: 16
  attention_units: 8
  bag_size: 24
  batch_size: 8
  learning_rate: {loguniform: [5.0e-3, 3.0e-2]}
"""


def scores(path: Path) -> dict[str, float]:
    with path.open() as file:
        return {row["path"]: float(row["score_tumor"]) for row in csv.DictReader(file)}


def attention(path: Path) -> list[float]:
    with path.open() as file:
        return [float(row["attention"]) for row in csv.DictReader(file)]


def test_slides_are_sharded_searched_tested_predicted_reported_and_served(
    run_on_cluster: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_on_cluster
    table = write_slides(tmp_path / "source", NUM_SLIDES)
    files = table.parent / "features"
    run.here("shard", str(table), "slides", "--format", "features", "--root", str(files))
    (run.folder / "slides.yaml").write_text(SPACE)
    words = ("launch", "slides.yaml", "--data", "slides", "--name", "mil", "--json")
    outcome = json.loads(run(*words).stdout)
    assert outcome["pooled_auroc"]["value"] > 0.8
    finished = load_study(study(run, "mil")).history.done()
    assert all(trial.costs.inference_ms for trial in finished)
    assert "held-out" in run.here("test", "mil").stdout.lower()

    run.here("predict", "mil", str(files), "from-files", "--explain", "50")
    run.here("predict", "mil", str(table), "from-table", "--root", str(files))
    from_files = scores(run.folder / "from-files" / "scores.csv")
    assert len(from_files) == NUM_SLIDES
    assert from_files == scores(run.folder / "from-table" / "scores.csv")
    _check_attention(run.folder / "from-files" / "explain", files)

    run.here("report", "mil", "--out", "mil.html")
    page = (run.folder / "mil.html").read_text()
    assert "rank of the attention" in page
    assert page.count("<img") >= 2

    monkeypatch.chdir(run.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{run.folder / 'mlflow.db'}")
    import mlflow.pyfunc  # it warns of its own type hints

    served = mlflow.pyfunc.load_model("models:/mil@champion")
    names = sorted(from_files)[:3]
    bags = [read_feature_file(str(files / name)).values for name in names]
    batch = np.full((3, max(map(len, bags)), bags[0].shape[1]), np.nan, np.float32)
    for number, bag in enumerate(bags):
        batch[number, : len(bag)] = bag
    answer = served.predict(batch)["score_tumor"].to_numpy()
    assert np.allclose(answer, [from_files[name] for name in names], atol=1e-4)


def _check_attention(folder: Path, files: Path) -> None:
    """The patches that make a slide one of class tumor have the highest attention."""
    explained = sorted(folder.glob("*.csv"))
    assert explained
    num_right = 0
    for path in explained:
        values = attention(path)
        assert abs(sum(values) - 1) < 1e-3
        assert path.with_suffix(".png").is_file()
        num_tumor = num_tumor_patches(len(values))
        num_right += np.mean(values[:num_tumor]) > np.mean(values[num_tumor:])
    assert num_right > len(explained) / 2
    assert files.is_dir()


def test_networks_of_images_and_of_slides_are_not_mixed_up(
    run: Commands, tmp_path: Path, shards: Path
) -> None:
    table = write_slides(tmp_path / "source", 12)
    files = str(table.parent / "features")
    run.here("shard", str(table), "slides", "--format", "features", "--root", files)
    (run.folder / "slides.yaml").write_text(SPACE)
    (run.folder / "images.yaml").write_text("epochs: 1\ntrials: 1\nspace: {architecture: cnn}\n")
    launched = run("launch", "slides.yaml", "--data", str(shards), code=2)
    assert "abmil takes features of slides, and the shards have images" in launched.stderr
    launched = run("launch", "images.yaml", "--data", "slides", code=2)
    assert "cnn takes images, and the shards have features of slides" in launched.stderr
    inspected = run.here("inspect", "slides", code=2)
    assert "features of slides, which have no pixels to inspect" in inspected.stderr
    assert not (run.folder / "studies").exists()
