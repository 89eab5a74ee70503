"""`raysearch export` says on which patches an export was compared, and rejects bad arguments."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from raysearch.champion.model_artifact import pack_model_artifact
from raysearch.cli import run
from raysearch.inference.model_loading import Model, load_model
from raysearch.search.tracking.model_registry import ARTIFACT_PATH
from support.result_studies import new_study
from support.tile_shards import tile_shards
from support.untrained_models import SIDE, untrained_model

WSINFER = ("--format", "wsinfer")


def test_a_folder_of_wsinfer_is_compared_on_training_patches(
    studies: str, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert studies
    assert run(["export", "first", "folder", *WSINFER, "--mpp", "0.5"]) == 0
    summary, note = capsys.readouterr().out.splitlines()
    assert summary.startswith("folder: first, trial t0000, ")
    assert "patches of 50x50 pixels of 0.5 micrometres in, probabilities of negative," in summary
    assert summary.endswith(f"on 8 synthetic patches and 64 training patches of {shards}")
    assert note.startswith("Note  WSInfer takes the class with the highest probability")
    assert sorted(path.name for path in Path("folder").iterdir()) == [
        "config.json",
        "torchscript_model.pt",
    ]


def test_the_user_names_patches_of_the_comparison(
    studies: str, image_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert studies
    images = str(image_folders / "plain")
    arguments = ["export", "first", "folder", *WSINFER, "--mpp", "0.5", "--check", images, "--json"]
    assert run(arguments) == 0
    exported = json.loads(capsys.readouterr().out)
    assert (exported["format"], exported["mpp"]) == ("wsinfer", 0.5)
    synthetic, real = exported["comparisons"]
    assert (synthetic["patches"], synthetic["num_patches"]) == ("synthetic patches", 8)
    assert (real["patches"], real["num_patches"]) == (f"patches of {images}", 60)
    assert real["max_difference"] <= exported["max_difference"] <= 1e-5


def register(model: Model, folder: Path) -> Path:
    """Write the folder of a registered model."""
    artifact = folder / "registered" / ARTIFACT_PATH
    artifact.parent.mkdir(parents=True)
    artifact.write_bytes(pack_model_artifact(model.artifact, model.classifier))
    return folder / "registered"


def test_tiles_of_slides_say_the_side_of_their_pixels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = tile_shards(tmp_path, 0.25, SIDE)
    plan = new_study(shards, tmp_path / "studies" / "made").plan
    model = untrained_model(class_names=("Stroma", "Tumor"))
    artifact = replace(
        model.artifact, study_identity=plan.identity, tile_settings=plan.tile_settings
    )
    registered = str(register(replace(model, artifact=artifact), tmp_path))
    out = tmp_path / "folder"
    arguments = ["export", registered, str(out), *WSINFER, "--studies", str(tmp_path / "studies")]
    assert run([*arguments, "--mpp", "0.5"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == (
        "raysearch: --mpp 0.5: the model was trained on tiles of 0.25 micrometres a pixel;"
        " remove it"
    )
    assert not out.exists()
    assert run([*arguments, "--json"]) == 0
    exported = json.loads(capsys.readouterr().out)
    assert exported["mpp"] == 0.25
    assert exported["comparisons"][1]["patches"] == f"training patches of {shards}"
    assert json.loads((out / "config.json").read_text())["spacing_um_px"] == 0.25


def test_a_note_says_that_no_real_patches_are_at_hand(
    studies: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(load_model("first", studies), tmp_path)
    arguments = ["export", "registered", "folder", *WSINFER, "--mpp", "0.25", "--json"]
    assert run([*arguments, "--studies", str(tmp_path / "none")]) == 0
    exported = json.loads(capsys.readouterr().out)
    assert [entry["patches"] for entry in exported["comparisons"]] == ["synthetic patches"]
    assert exported["mpp"] == 0.25
    assert exported["notes"][0] == (
        "the export was compared on synthetic patches only, because no folder of the study 'first'"
        " can be read; name the folder of all studies with --studies; --check names other patches"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.onnx", "--mpp", "0.5"], "--mpp: has no effect with --format onnx; remove it"),
        (["a.pt"], "a.pt: not the name of an ONNX file; name a file that ends with .onnx"),
        (["none/a.onnx"], "OUT none/a.onnx: no folder none; create it, or name another"),
        (["a.onnx", *WSINFER, "--mpp", "0.5"], "a.onnx: the name of a file; name a folder for --f"),
        (["a.pt", *WSINFER, "--mpp", "0.5"], "a.pt: the name of a file; name a folder for --for"),
        (["full", *WSINFER, "--mpp", "0.5"], "full: already exists; remove it, or name another"),
        (["full/file", *WSINFER, "--mpp", "0.5"], "full/file: already exists; remove it, or"),
        (["a", *WSINFER, "--mpp", "40"], "--mpp 40: give 0.05 to 20 micrometres a pixel"),
        (["a", *WSINFER], "the model does not say the size of the pixels that it was trained"),
        (["a", *WSINFER, "--mpp", "0.5", "--check", "none"], "none: "),
        (["a.onnx", "--check", "full"], "full: "),
    ],
)
def test_bad_arguments_are_rejected_in_one_line_and_nothing_is_written(
    studies: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert studies
    Path("full").mkdir()
    Path("full/file").touch()
    assert run(["export", "first", *arguments]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("raysearch: ")
    assert message in line
    assert [path.name for path in Path().iterdir()] == ["full"]


def test_an_unknown_format_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "first", "out", "--format", "onx"]) == 2
    error = capsys.readouterr().err
    assert "onnx" in error
    assert "wsinfer" in error
