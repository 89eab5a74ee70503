"""`raysearch export` says on which patches an export was compared, and rejects bad arguments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raysearch.champion.model_artifact import pack_model_artifact
from raysearch.cli import run
from raysearch.inference.model_loading import load_model
from raysearch.search.tracking.model_registry import ARTIFACT_PATH

WSINFER = ("--format", "wsinfer")


def test_a_folder_of_wsinfer_is_compared_on_training_patches(
    studies: str, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert studies
    assert run(["export", "first", "folder", *WSINFER, "--mpp", "0.5"]) == 0
    summary, note = capsys.readouterr().out.splitlines()
    assert summary.startswith("folder: first, trial t0000, ")
    assert "patches of 50x50 pixels in, probabilities of negative, positive out" in summary
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
    assert run(["export", "first", "first.onnx", "--check", images, "--json"]) == 0
    exported = json.loads(capsys.readouterr().out)
    assert exported["format"] == "onnx"
    assert exported["notes"] == []
    synthetic, real = exported["comparisons"]
    assert (synthetic["patches"], synthetic["num_patches"]) == ("synthetic patches", 8)
    assert (real["patches"], real["num_patches"]) == (f"patches of {images}", 60)
    assert real["max_difference"] <= exported["max_difference"] <= 1e-5


def test_a_note_says_that_no_real_patches_are_at_hand(
    studies: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model("first", studies)
    artifact = tmp_path / "registered" / ARTIFACT_PATH
    artifact.parent.mkdir(parents=True)
    artifact.write_bytes(pack_model_artifact(model.artifact, model.classifier))
    arguments = ["export", "registered", "folder", *WSINFER, "--mpp", "0.25", "--json"]
    assert run([*arguments, "--studies", str(tmp_path / "none")]) == 0
    exported = json.loads(capsys.readouterr().out)
    assert [entry["patches"] for entry in exported["comparisons"]] == ["synthetic patches"]
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
        (["a.onnx", *WSINFER, "--mpp", "0.5"], "a.onnx: the name of an ONNX file; name a folder"),
        (["full", *WSINFER, "--mpp", "0.5"], "full: already exists; remove it, or name another"),
        (["full/file", *WSINFER, "--mpp", "0.5"], "full/file: already exists; remove it, or"),
        (["a", *WSINFER, "--mpp", "40"], "--mpp 40: give 0.05 to 20 micrometres a pixel"),
        (["a", *WSINFER], "needs the side of a pixel, which the training shards of 'first' do"),
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
