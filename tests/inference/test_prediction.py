"""A champion used: the same scores from shards and images, in one go or several, here or spread."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from conftest import Commands, await_answer
from raysearch.cli import run
from raysearch.data.files import Folder
from raysearch.data.patches import load_patches
from raysearch.data.shards.sharding import write_shards
from raysearch.inference.model_loading import load_model, score
from raysearch.inference.prediction import PARTS, predict
from raysearch.inference.score_sources import source_of
from raysearch.search.study.study import Study
from support.champion_studies import crowned_study

pytestmark = pytest.mark.filterwarnings("ignore")
COLUMNS = ["path", "patient", "x", "y", "label", "score_negative", "score_positive"]


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of patients with patches named as IDC's, and what is no image."""
    top = tmp_path_factory.mktemp("images")
    write_shards("6:60:4", top / "shards", "synthetic", workers=1)
    drawn = load_patches(str(top / "shards"), cache=top / "cache")
    for number, (flat, patient, label) in enumerate(
        zip(drawn.pixels, drawn.patients, drawn.labels, strict=True)
    ):
        folder = top / "idc" / patient / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{patient}_idx5_x{1 + 50 * number}_y51_class{label}.png"
        image = np.array(flat).reshape(drawn.shape)[:, :, ::-1]
        cv2.imwrite(str(folder / name), image)
    (top / "idc" / "note.txt").write_text("no image")
    plain = top / "plain"
    for file in sorted((top / "idc").rglob("*.png")):
        (plain / "slide 1").mkdir(parents=True, exist_ok=True)
        shutil.copy(file, plain / "slide 1" / file.name.rsplit("_class", 1)[0].join(["", ".png"]))
    return top


@pytest.fixture(scope="module")
def study(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return crowned_study(shards, tmp_path_factory.mktemp("used") / "studies" / "first")


@pytest.fixture
def studies(study: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.chdir(tmp_path)
    # Not the one of the working directory: this process would keep it open for other tests.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    place = str(Path(study.folder.address).parent)
    monkeypatch.setenv("RAYSEARCH_STUDIES", place)
    return place


def scores(out: Path) -> NDArray[np.float64]:
    table = pq.read_table(out / "scores.parquet")
    assert table.column_names == COLUMNS
    order = np.argsort(table["x"].to_numpy())
    return np.column_stack([table[name].to_numpy()[order] for name in COLUMNS[-2:]])


@pytest.mark.usefixtures("studies")
def test_images_have_the_scores_of_the_same_shards_and_the_table_says_whose(
    patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", "first", str(patches / "idc"), str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.startswith("60 patches in ")
    write_shards(str(patches / "idc"), tmp_path / "shards", "idc", workers=1)
    assert run(["predict", "first", str(tmp_path / "shards"), str(tmp_path / "same")]) == 0
    found = scores(tmp_path / "out")
    assert np.allclose(found, scores(tmp_path / "same"), atol=1e-6)
    assert np.allclose(found.sum(axis=1), 1)
    table = pq.read_table(tmp_path / "out" / "scores.parquet")
    assert set(table["label"].to_pylist()) == {"negative", "positive"}
    assert set(table["y"].to_pylist()) == {51}
    with (tmp_path / "out" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == table["path"].to_pylist()
    assert [row["file"] for row in csv.DictReader((tmp_path / "out" / "rejected.csv").open())] == [
        "note.txt"
    ]
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == [
        *("rejected.csv", "scores.csv", "scores.parquet")
    ]


@pytest.mark.usefixtures("studies")
def test_images_that_tell_no_labels_are_scored_without(patches: Path, tmp_path: Path) -> None:
    assert run(["predict", "first", str(patches / "plain"), str(tmp_path / "out")]) == 0
    table = pq.read_table(tmp_path / "out" / "scores.parquet")
    assert set(table["label"].to_pylist()) == {None}
    assert set(table["patient"].to_pylist()) == {"slide 1"}
    assert run(["predict", "first", str(patches / "idc"), str(tmp_path / "known")]) == 0
    assert np.allclose(scores(tmp_path / "out"), scores(tmp_path / "known"), atol=1e-6)


def test_what_was_scored_before_a_stop_is_not_scored_again(
    studies: str, patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysearch.inference.score_sources.AT_ONCE", 25)
    model, out = load_model("first", studies), Folder(tmp_path / "out")
    source = source_of(str(patches / "idc"), None, "label", model.recipe.shape, tmp_path)

    def stop(done: int, _every: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(model, source, out, stop)
    assert not out.exists("scores.parquet")
    assert out.names(PARTS) == ["000000.arrow", "000001.arrow", "request.json"]
    found = predict(model, source, out, lambda _done, _every: None)
    assert (found.rows, found.new, found.rejected) == (60, 10, 1)
    assert not out.exists(PARTS)
    again = predict(model, source, out, lambda _done, _every: None)
    assert (again.rows, again.new, again.rejected) == (60, 0, 1)


@pytest.mark.usefixtures("studies")
def test_scores_of_another_model_or_source_are_not_written_over(
    patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["predict", "first", str(patches / "idc"), str(out)]) == 0
    before = (out / "scores.parquet").read_bytes()
    assert run(["predict", "first", str(patches / "plain"), str(out)]) == 2
    assert "of another model or source" in capsys.readouterr().err
    assert (out / "scores.parquet").read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    assert run(["predict", "first", str(patches / "idc"), str(tmp_path / "mine")]) == 2
    assert "holds something else" in capsys.readouterr().err


@pytest.mark.usefixtures("studies")
def test_what_cannot_be_scored_is_rejected(
    patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    write_shards("4:40:2", tmp_path / "large", "synthetic", size=(64, 64), workers=1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "MLmodel").write_text("flavors: {}")
    for words, error in (
        (["first", str(tmp_path / "large")], "and the model takes 50x50"),
        (["first", str(tmp_path / "empty")], "no image in it"),
        (["first", str(tmp_path / "nowhere")], "no such folder"),
        (["nobody", str(patches / "idc")], "no model; give the name of a study"),
        ([str(tmp_path / "foreign"), str(patches / "idc")], "would run what its files say"),
        (["models:/nobody@champion", str(patches / "idc")], "cannot be loaded from"),
        (["models:/first", str(patches / "idc")], "give models:/NAME@champion"),
    ):
        assert run(["predict", *words, out]) == 2, words
        assert error in capsys.readouterr().err
    assert not Path(out).exists()


@pytest.mark.usefixtures("studies")
def test_the_surest_errors_are_shown_with_what_decided_framed(
    patches: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(["predict", "first", str(patches / "idc"), str(out), "--explain", "5"]) == 0
    table = pq.read_table(out / "scores.parquet")
    said = np.array(["negative", "positive"])[
        (table["score_positive"].to_numpy() > 0.5).astype(int)
    ]
    wrong = int((said != np.array(table["label"].to_pylist())).sum())
    pictures = sorted((out / "explain").iterdir())
    assert len(pictures) == min(5, wrong)
    sure = [float(one.name.split("-")[2]) for one in pictures]
    assert sure == sorted(sure, reverse=True)
    image = cv2.imread(str(pictures[0]))
    assert image is not None
    assert image.shape == (200, 404, 3)
    assert (image[:, 204:] == 255).all(axis=2).any()


@pytest.mark.slow
def test_spread_over_ray_the_scores_are_the_same(
    studies: str, patches: Path, tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysearch.inference.score_sources.AT_ONCE", 25)
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    assert studies
    words = ["predict", "first", str(patches / "idc")]
    assert run([*words, str(tmp_path / "here")]) == 0
    assert run([*words, str(tmp_path / "spread"), "--spread", "2"]) == 0
    assert np.allclose(scores(tmp_path / "here"), scores(tmp_path / "spread"), atol=1e-6)


SPACE = """
epochs: 1
trials: 1
stopping: {rule: none}
space: {folds: 2, architecture: cnn, width: 4, convolutions: 1}
"""


@pytest.mark.slow
def test_the_registered_champion_gives_the_same_scores_served_loaded_and_from_its_folder(
    run: Commands, shards: Path, patches: Path
) -> None:
    (run.folder / "space.yaml").write_text(SPACE)
    run("launch", "space.yaml", "--data", str(shards), "--name", "first")
    run("predict", "first", str(patches / "idc"), "study")
    run("predict", "models:/first@champion", str(patches / "idc"), "registered")
    (folder,) = run.folder.glob("mlruns/*/models/*/artifacts")
    run("predict", str(folder), str(patches / "idc"), "folder")
    wanted = scores(run.folder / "study")
    assert np.allclose(scores(run.folder / "registered"), wanted, atol=1e-6)
    assert np.allclose(scores(run.folder / "folder"), wanted, atol=1e-6)
    files = pq.read_table(run.folder / "study" / "scores.parquet")
    order = np.argsort(files["x"].to_numpy())[:8]
    names = files["path"].to_pylist()
    images = [np.asarray(Image.open(patches / "idc" / names[one])) for one in order]
    served = asked_over_http(run, np.stack(images))
    assert np.allclose(served, wanted[:8], atol=1e-5)


def asked_over_http(run: Commands, batch: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What `mlflow models serve` answers."""
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


def test_a_model_is_one_and_the_same_however_often_it_is_loaded(studies: str, shards: Path) -> None:
    first, second = load_model("first", studies), load_model("first", studies)
    assert first.identity == second.identity
    pixels = load_patches(str(shards)).pixels[:7]
    one_by_one = np.concatenate([score(first, pixels[row : row + 1]) for row in range(7)])
    assert np.allclose(score(second, pixels), one_by_one, atol=1e-6)
