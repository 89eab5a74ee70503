"""Whole studies, with real Ray, Optuna and MLflow."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from conftest import Commands
from raysearch.search.study.stored_study import load_study, read_plan
from support.launched_studies import (
    check_mlflow_has_the_history,
    check_repeated_decisions,
    check_rung_decisions,
    check_scores_at_rungs,
    check_the_pooled_auroc,
    check_the_registered_model,
    check_the_repeat,
    check_the_selection,
    prepare_launch,
    runs,
    study,
    wait_for_reports,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_a_study_runs_on_two_nodes_and_everything_is_recorded(
    run_on_cluster: Commands, shards: Path
) -> None:
    run = run_on_cluster
    prepare_launch(
        run.folder, trials="15", repeats="1"
    )  # 10 of them before the sampler's first model
    process = run("launch", "small.yaml", "--data", str(shards), "--json")
    outcome = json.loads(process.stdout)
    history = load_study(study(run)).history
    assert len(history.searched()) == 15
    check_repeated_decisions(run)
    check_rung_decisions(history, run)
    check_mlflow_has_the_history(run, history)
    assert {row["kind"] for row in outcome["leaderboard"]} == {"trial", "benchmark", "majority"}
    champion = history.trials[outcome["champion"]]
    check_the_selection(run, history, outcome)
    assert json.loads(run("results", "--json").stdout)["leaderboard"] == outcome["leaderboard"]
    check_scores_at_rungs(run, history, shards)
    check_the_pooled_auroc(run, champion, outcome["pooled_auroc"])
    check_the_repeat(run, champion, outcome)
    check_the_registered_model(run, shards)
    parent, children, _baselines = runs(run)
    for logged in (parent, *children):
        assert logged.data.tags["data_hash"] == read_plan(study(run)).fingerprint
        assert logged.data.tags["seed"] == "4"
        assert len(logged.data.tags["split_hash"]) == 64
    finished = next(child for child in children if child.info.status == "FINISHED")
    folds = [finished.data.metrics[f"fold_{fold}/auroc"] for fold in range(2)]
    assert finished.data.metrics["auroc"] == pytest.approx(np.mean(folds), abs=1e-12)


@pytest.mark.long
def test_one_slot_and_one_seed_give_the_same_study(run: Commands, shards: Path) -> None:
    prepare_launch(run.folder, 2)
    text = (run.folder / "small.yaml").read_text().replace("{cpus: 1}", "{cpus: 2}")
    (run.folder / "small.yaml").write_text(text.replace("trials: 6", "trials: 12"))
    numbers = []
    for name in ("one", "two"):
        run("launch", "small.yaml", "--data", str(shards), "--name", name)
        history = load_study(study(run, name)).history
        numbers.append(
            [(trial.hparams, trial.status, trial.objective) for trial in history.searched()]
        )
    assert len(numbers[0]) == 12
    assert numbers[0] == numbers[1]
    words = ("--name", "three", "--seed", "5")
    third = run.start("launch", "small.yaml", "--data", str(shards), *words)
    wait_for_reports(run, 1, name="three")
    third.send_signal(signal.SIGINT)
    third.communicate(timeout=60)
    assert third.returncode == 130
    first_hparams = numbers[0][0][0]
    assert load_study(study(run, "three")).history.searched()[0].hparams != first_hparams
