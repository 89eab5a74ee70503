"""Champions are registered and selected again, with real Ray, Optuna and MLflow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from conftest import Commands
from raysearch.search.study.stored_study import load_study, read_plan
from raysearch.selection.selection import select
from support.launched_studies import (
    check_mlflow_has_the_history,
    check_the_ensemble,
    check_the_registered_model,
    prepare_launch,
    study,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.mark.long
def test_a_champion_is_registered_once_and_is_the_best_of_more_trials(
    run_on_cluster: Commands, shards: Path
) -> None:
    run = run_on_cluster
    prepare_launch(run.folder, 1, stopping="{rule: none}")
    words = ("launch", "small.yaml", "--data", str(shards), "--name", "small")
    run(*words, "--trials", "2")
    store = f"sqlite:///{run.folder}/mlflow.db"
    client = MlflowClient(store, store)
    client.delete_registered_model_alias("small", "champion")
    client.set_model_version_tag("small", "1", "seen by", "a user")
    run(*words, "--resume")
    # SQLite gives the version as a number, a server as text.
    assert str(client.get_model_version_by_alias("small", "champion").version) == "1"
    assert len(client.search_model_versions("name = 'small'")) == 1
    for num_more in (1, 3):
        run(*words, "--resume", "--trials", f"+{num_more}")
    history = load_study(study(run)).history
    assert len(history.searched()) == 6
    selection = select(study(run), read_plan(study(run)), history)
    assert len(selection.candidates) == len(history.done())
    assert history.champion == selection.chosen.id
    check_mlflow_has_the_history(run, history)


@pytest.mark.long
def test_a_selection_by_other_options_moves_the_alias(
    run_on_cluster: Commands, shards: Path
) -> None:
    run = run_on_cluster
    prepare_launch(run.folder, 1, stopping="{rule: none}")
    words = ("launch", "small.yaml", "--data", str(shards), "--name", "small")
    first = json.loads(run(*words, "--trials", "3", "--json").stdout)
    assert first["decision"]["kind"] == "refit"
    assert (first["repeats"], first["version"]) == ([], "1")
    command = ("select", "small", "--margin", "1", "--threshold-by", "f1")
    selected = json.loads(run(*command, "--ensemble", "--repeats", "1", "--json").stdout)
    assert sorted(selected["tied"]) == ["t0000", "t0001", "t0002"]
    fastest = min(candidate["inference_ms"] for candidate in selected["candidates"])
    (chosen,) = [candidate for candidate in selected["candidates"] if candidate["chosen"]]
    assert chosen["inference_ms"] <= 1.1 * fastest
    assert selected["champion"] == chosen["trial"]
    assert selected["decision"]["criterion"] == "f1"
    check_the_ensemble(run, selected)
    folder, seed = study(run), selected["repeats"][0]["seed"]
    # A launcher that was killed between the folds leaves one of them.
    folder.remove(folder.repeat_scores(selected["champion"], seed, 1))
    modified = folder.modified(folder.repeat_scores(selected["champion"], seed, 0))
    resumed = json.loads(run(*words, "--resume", "--json").stdout)
    for name in ("champion", "decision", "repeats", "version"):
        assert resumed[name] == selected[name]
    assert folder.modified(folder.repeat_scores(selected["champion"], seed, 0)) == modified
    check_the_registered_model(run, shards)
    refit = json.loads(run(*command, "--refit", "--json").stdout)
    assert refit["decision"]["kind"] == "refit"
    assert refit["champion"] == selected["champion"]
    client = MlflowClient(*[f"sqlite:///{run.folder}/mlflow.db"] * 2)
    version = client.get_model_version_by_alias("small", "champion")
    assert (version.tags["trial"], version.tags["kind"]) == (selected["champion"], "refit")
    assert version.tags["threshold_criterion"] == "f1"
    versions = client.search_model_versions("name = 'small'")
    names = ("trial", "kind", "threshold")
    identities = {tuple(version.tags[name] for name in names) for version in versions}
    assert len(versions) == len(identities)  # a selection that changes nothing adds no version
    assert {version.tags["trial"] for version in versions} == {
        *(first["champion"], selected["champion"])
    }
    check_mlflow_has_the_history(run, load_study(study(run)).history)
