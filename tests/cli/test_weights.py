"""The command `raysearch weights`: a study that starts with the champion's weights of another."""

from typing import Any

import pytest
import torch
import yaml

from conftest import Commands
from raysearch.config.hyperparameter_spec import Value
from raysearch.models.architectures.networks import build_network
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.stored_study import load_study

SHAPE = (50, 50, 3)
SMALL_CNN: dict[str, Value] = {"architecture": "cnn", "width": 4, "convolutions": 1}


def write_space(run: Commands, name: str, hparams: dict[str, Any], **settings: Any) -> None:
    """Write the file of a space without repeats to the folder of the commands."""
    tree = {"epochs": 1, "trials": 1, "repeats": 0, "space": {"folds": 2, **SMALL_CNN, **hparams}}
    (run.folder / f"{name}.yaml").write_text(yaml.safe_dump(tree | settings))


@pytest.mark.slow
def test_the_weights_of_a_champion_start_another_study(run: Commands) -> None:
    write_space(run, "first", {"normalization": "imagenet"})
    run("launch", "first.yaml", "--data", "synthetic:6:120:0")
    assert "no study 'none'" in run("weights", "none", "first.pt", code=2).stderr
    assert "no file of weights" in run("weights", "first", "first.txt", code=2).stderr
    run("weights", "first", "first.pt")
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
