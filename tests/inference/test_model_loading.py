"""Loading a model: from its study, the registry and a folder it is the same model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from conftest import Commands, await_answer
from raysearch.champion.model_artifact import pack_model_artifact
from raysearch.data.shards.patches import load_patches
from raysearch.errors import StudyError
from raysearch.inference.model_loading import load_model, model_from_artifact, predict_proba
from support.score_tables import read_scores

pytestmark = pytest.mark.filterwarnings("ignore")
SPACE = """
epochs: 1
trials: 1
stopping: {rule: none}
space: {folds: 2, architecture: cnn, width: 4, convolutions: 1}
"""


def test_two_loads_give_the_same_model_and_batches_do_not_matter(
    studies: str, shards: Path
) -> None:
    first, second = load_model("first", studies), load_model("first", studies)
    assert first.content_hash == second.content_hash
    pixels = load_patches(str(shards)).pixels[:7]
    row_by_row = np.concatenate([predict_proba(first, pixels[row : row + 1]) for row in range(7)])
    assert np.allclose(predict_proba(second, pixels), row_by_row, atol=1e-6)


def test_a_damaged_model_is_rejected_in_one_line(studies: str) -> None:
    model = load_model("first", studies)
    content = pack_model_artifact(model.artifact, model.classifier)
    with pytest.raises(StudyError, match=r"^model\.pt: .*; register the champion again") as error:
        model_from_artifact(content[:-1], "model.pt")
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_registered_model_gives_the_same_scores_served_loaded_and_from_its_folder(
    run: Commands, shards: Path, image_folders: Path
) -> None:
    images = image_folders / "idc"
    (run.folder / "space.yaml").write_text(SPACE)
    run("launch", "space.yaml", "--data", str(shards), "--name", "first")
    run("predict", "first", str(images), "study")
    run("predict", "models:/first@champion", str(images), "registered")
    (folder,) = run.folder.glob("mlruns/*/models/*/artifacts")
    run("predict", str(folder), str(images), "folder")
    expected = read_scores(run.folder / "study")
    assert np.allclose(read_scores(run.folder / "registered"), expected, atol=1e-6)
    assert np.allclose(read_scores(run.folder / "folder"), expected, atol=1e-6)
    table = pq.read_table(run.folder / "study" / "scores.parquet")
    paths = table["path"].to_pylist()
    first_rows = np.argsort(table["x"].to_numpy())[:8]
    batch = np.stack([np.asarray(Image.open(images / paths[row])) for row in first_rows])
    assert np.allclose(served_predictions(run, batch), expected[:8], atol=1e-5)


def served_predictions(run: Commands, batch: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the predictions of `mlflow models serve`."""
    words = ("models", "serve", "-m", "models:/first@champion", "--env-manager", "local")
    programs = Path(sys.executable).parent
    environment = {
        **run.environment,
        "MLFLOW_TRACKING_URI": f"sqlite:///{run.folder}/mlflow.db",
        "PATH": f"{programs}:{run.environment['PATH']}",  # it starts uvicorn by its name
    }
    server = subprocess.Popen(
        [str(programs / "mlflow"), *words, "-p", "5099", "-w", "1"],
        cwd=run.folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        await_answer("http://127.0.0.1:5099/ping")
        request = urllib.request.Request(
            "http://127.0.0.1:5099/invocations",
            json.dumps({"inputs": batch.tolist()}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return np.array(json.loads(answer.read())["predictions"])
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
