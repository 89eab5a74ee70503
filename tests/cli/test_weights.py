"""The commands `raysearch weights`: pretrained weights, and those of a champion for a study."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import constants

from conftest import Commands
from raysearch.cli import run as run_command
from raysearch.config.hyperparameter_spec import Value
from raysearch.models.architectures.networks import build_network
from raysearch.models.transfer.input_normalization import unwrap
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.stored_study import load_study

SHAPE = (50, 50, 3)
SMALL_CNN: dict[str, Value] = {"architecture": "cnn", "width": 4, "convolutions": 1}


def write_space(run: Commands, name: str, hparams: dict[str, Any], **settings: Any) -> None:
    """Write the file of a space without repeats to the folder of the commands."""
    tree = {"epochs": 1, "trials": 1, "repeats": 0, "space": {"folds": 2, **SMALL_CNN, **hparams}}
    (run.folder / f"{name}.yaml").write_text(yaml.safe_dump(tree | settings))


@pytest.mark.slow
@pytest.mark.long
def test_the_weights_of_a_champion_start_another_study(run: Commands) -> None:
    write_space(run, "first", {"normalization": "imagenet"})
    run("launch", "first.yaml", "--data", "synthetic:6:120:0")
    assert "no study 'none'" in run("weights", "export", "none", "first.pt", code=2).stderr
    assert "no file of weights" in run("weights", "export", "first", "first.txt", code=2).stderr
    run("weights", "export", "first", "first.pt")
    state = torch.load(run.folder / "first.pt", weights_only=True)
    assert list(state) == list(build_network("cnn", SHAPE, 2, SMALL_CNN).state_dict())
    transfer = {"weights": "first.pt", "head_epochs": 1, "frozen_blocks": 1, "head_hidden_units": 4}
    write_space(run, "second", transfer, epochs=2)
    run("launch", "second.yaml", "--data", "synthetic:6:120:1")
    # The plan checks the weights with the largest network only; those of the other do not match.
    hparams = {"width": {"choice": [2, 4]}, "weights": "first.pt"}
    write_space(run, "third", hparams, trials=2, sampler="grid")
    run("launch", "third.yaml", "--data", "synthetic:6:120:1")
    study = load_study(StudyFolder(str(run.folder / "studies" / "third")))
    by_width = {trial.hparams["width"]: trial for trial in study.history.searched()}
    assert by_width[2].status == "failed"
    assert "not those of cnn" in by_width[2].reason
    assert by_width[4].status == "finished"


def test_the_weights_of_a_machine_are_listed_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {
        "RAYSEARCH_CACHE": str(tmp_path / "cache"),
        "RAYSEARCH_WEIGHTS": str(tmp_path / "weights"),
        "TORCH_HOME": str(tmp_path / "torch"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    # The hub reads its environment variables when it is imported.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def output(*words: str, code: int = 0) -> str:
        """The standard output of a command, or the standard error of one that fails."""
        assert run_command(["weights", *words]) == code
        captured = capsys.readouterr()
        return captured.err if code else captured.out

    assert "No pretrained weights are on this machine" in output("list")
    snapshot = tmp_path / "weights/lunit-s16"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    with torch.device("meta"):
        network = unwrap(build_network("lunit-s16", (224, 224, 3), 2, {}))
    state = {
        name.removeprefix("encoder."): torch.zeros(value.shape)
        for name, value in network.state_dict().items()
        if name.startswith("encoder.")
    }
    torch.save({"teacher": state}, snapshot / "pytorch_model.bin")
    (listed,) = json.loads(output("list", "--json"))["weights"]
    assert (listed["architecture"], listed["weights"]) == ("lunit-s16", "pretrained")
    (checked,) = json.loads(output("check", "lunit-s16", "--json"))["weights"]
    content = (snapshot / "pytorch_model.bin").read_bytes()
    assert checked["sha256"] == hashlib.sha256(content).hexdigest()
    error = output("check", "lunit-s8", str(snapshot / "pytorch_model.bin"), code=2)
    assert error.count("\n") == 1
    assert error.endswith("these are weights of lunit-s16\n")
    assert "is unknown" in output("fetch", "nonet", code=2)
    assert "cannot be fetched" in output("fetch", "uni", code=2)


@pytest.mark.usefixtures("slide_study")
def test_the_weights_of_a_network_of_slides_are_not_those_of_images(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(["weights", "export", "first", "slides.pt"]) == 0
    output = capsys.readouterr().out
    assert "trained on slides with 16 features of each patch" in output
    assert "pixels" not in output
