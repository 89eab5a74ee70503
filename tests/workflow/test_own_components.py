"""A study by components of the user's own: searched on two nodes, resumed, and used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import Commands
from raysearch.search.study.stored_study import load_study
from support.empty_tracking_store import add_tracking_store
from support.launched_studies import study
from support.own_components import write_own_components

NAME = "own_workflow"


@pytest.mark.slow
def test_own_components_are_searched_resumed_and_used(
    run_on_cluster: Commands, shards: Path
) -> None:
    run = run_on_cluster
    # Beside the space, and not in the working folder.
    space = write_own_components(run.folder / "spaces", NAME)
    add_tracking_store(run.folder)
    launched = run("launch", str(space), "--data", str(shards), "--name", "small", "--json")
    outcome = json.loads(launched.stdout)
    snapshot = load_study(study(run))
    champion = snapshot.history.trials[outcome["champion"]]
    assert len(snapshot.history.searched()) == 2
    assert all(trial.status != "failed" for trial in snapshot.history.searched())
    assert champion.hparams["architecture"] == f"{NAME}:build"
    assert f"{NAME}:mean_probability" in champion.reports[-1].metrics
    assert [file.path for file in snapshot.plan.code.files] == [
        f"{NAME}.py",
        f"{NAME}_layers.py",
    ]

    scores = run.folder / "scores"
    address = ("predict", "models:/small@champion", str(shards), str(scores))
    refused = run(*address, code=2).stderr
    functions = f"{NAME}:build, {NAME}:centered of {NAME}.py,"
    assert f"the model of small runs code of its own ({functions}" in refused
    assert "--allow-code" in refused
    assert not scores.exists()
    assert json.loads(run(*address, "--allow-code", "--json").stdout)["num_rows"] == 240
    onnx_file = str(run.folder / "small.onnx")
    assert "add --allow-code" in run("export", "small", onnx_file, code=2).stderr
    exported = json.loads(run("export", "small", onnx_file, "--allow-code", "--json").stdout)
    assert exported["max_difference"] <= 1e-5
    refused = run("report", "small", code=2).stderr
    assert refused.count("\n") == 1
    assert "add --allow-code" in refused
    run("report", "small", "--allow-code")
    assert f"{NAME}:mean_probability" in (run.folder / "small.html").read_text()

    with (space.parent / f"{NAME}_layers.py").open("a") as file:
        file.write("# changed\n")
    resume = ("launch", str(space), "--name", "small", "--resume", "--trials", "+1")
    assert f"code {NAME}_layers.py was" in run(*resume, code=2).stderr
