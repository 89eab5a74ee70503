"""Loading a model: from its study, the registry and a folder it is the same model."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import urllib.error
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
from raysearch.inference import model_loading
from raysearch.inference.model_loading import load_model, model_from_artifact, predict_proba
from raysearch.search.tracking.model_registry import ARTIFACT_PATH
from support.bare_environment import bare_environment
from support.free_ports import free_port
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


@pytest.mark.parametrize("tag", ["many\nlines", "nan", "inf", "7", "-0.1", ""])
def test_a_registered_threshold_is_a_number_from_0_to_1(studies: str, tag: str) -> None:
    model = load_model("first", studies)
    changed = model_loading._with_registered_threshold(model, {"threshold": "0.25"})
    assert changed.artifact.threshold == 0.25
    rounded = model_loading._with_registered_threshold(
        model, {"threshold": f"{model.artifact.threshold:.6g}"}
    )
    assert rounded.artifact.threshold == model.artifact.threshold
    with pytest.raises(StudyError, match="the tag `threshold` of the registered version") as error:
        model_loading._with_registered_threshold(model, {"threshold": tag})
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_registered_model_gives_the_same_scores_served_loaded_and_from_its_folder(
    run: Commands, shards: Path, image_folders: Path
) -> None:
    images = image_folders / "idc"
    (run.folder / "space.yaml").write_text(SPACE)
    run("launch", "space.yaml", "--data", str(shards), "--name", "first")
    run.here("predict", "first", str(images), "study")
    run.here("predict", "models:/first@champion", str(images), "registered")
    (folder,) = run.folder.glob("mlruns/*/models/*/artifacts")
    run.here("predict", str(folder), str(images), "folder")
    expected = read_scores(run.folder / "study")
    assert np.allclose(read_scores(run.folder / "registered"), expected, atol=1e-6)
    assert np.allclose(read_scores(run.folder / "folder"), expected, atol=1e-6)
    table = pq.read_table(run.folder / "study" / "scores.parquet")
    paths = table["path"].to_pylist()
    first_rows = np.argsort(table["x"].to_numpy())[:8]
    batch = np.stack([np.asarray(Image.open(images / paths[row])) for row in first_rows])
    answer = served_answer(run, batch)
    columns = ["score_negative", "score_positive"]
    assert [list(row) for row in answer] == [["class", "probability", "decision", *columns]] * 8
    scores = np.array([[row[name] for name in columns] for row in answer], np.float64)
    assert np.allclose(scores, expected[:8], atol=1e-5)
    for name in ("class", "decision"):
        expected_names = [table[name].to_pylist()[row] for row in first_rows]
        assert [row[name] for row in answer] == expected_names


def served_answer(run: Commands, batch: NDArray[np.uint8]) -> list[dict[str, object]]:
    """Return the answer of `mlflow models serve`, where raysearch is not installed.

    What is no batch of patches is rejected.
    """
    words = ("models", "serve", "-m", "models:/first@champion", "--env-manager", "local")
    programs, port = Path(sys.executable).parent, free_port()
    environment = {
        **run.environment,
        **bare_environment(run.folder / "site"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{run.folder}/mlflow.db",
        "PATH": f"{programs}:{run.environment['PATH']}",  # it starts uvicorn by its name
    }
    server = subprocess.Popen(
        [str(programs / "mlflow"), *words, "-p", str(port), "-w", "1"],
        cwd=run.folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        await_answer(f"http://127.0.0.1:{port}/ping")
        for wrong in (batch[:, 1:], batch.astype(np.int64) + 256):
            with pytest.raises(urllib.error.HTTPError, match="400"):
                post(wrong, port)
        assert len(post(batch[:1], port)) == 1  # other programs send one patch at a time
        return post(batch, port)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def post(patches: NDArray[np.generic], port: int) -> list[dict[str, object]]:
    """Send patches to the served model, and return its answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        json.dumps({"inputs": patches.tolist()}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        predictions: list[dict[str, object]] = json.loads(answer.read())["predictions"]
    return predictions


def test_loading_a_folder_runs_nothing_from_it(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "loader.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    (tmp_path / "MLmodel").write_text(
        "flavors:\n  python_function:\n    loader_module: loader\n    code: code\n"
    )
    with pytest.raises(StudyError, match="loading it would run code from its files"):
        load_model(str(tmp_path), str(tmp_path / "studies"))
    (tmp_path / "extra_files").mkdir()
    (tmp_path / ARTIFACT_PATH).write_bytes(pickle.dumps([str(code)]))
    with pytest.raises(StudyError, match="register the champion again"):
        load_model(str(tmp_path), str(tmp_path / "studies"))
    assert not (tmp_path / "ran").exists()


def test_no_command_uses_the_loaders_of_mlflow() -> None:
    source = Path(model_loading.__file__).parents[1]
    loaders = re.compile(r"(pyfunc|pytorch|sklearn)\.load_model|mlflow\.models\.predict")
    files = [path for path in source.rglob("*.py") if loaders.search(path.read_text())]
    assert not files
