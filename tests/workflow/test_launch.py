"""Whole studies, with real Ray, Optuna and MLflow."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from conftest import Commands
from raysearch.search.journal.events import (
    TrialStarted,
)
from raysearch.search.journal.journal import Journal
from raysearch.search.scheduling.policy import SearchPolicy
from raysearch.search.study.stored_study import load_study, read_plan
from raysearch.selection.selection import select
from support.launched_studies import (
    check_mlflow_has_the_history,
    check_rung_decisions,
    check_scores_at_rungs,
    check_the_pooled_auroc,
    check_the_registered_model,
    check_the_repeat,
    check_the_selection,
    runs,
    study,
    write_space,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_a_study_runs_on_two_nodes_and_everything_is_recorded(
    run_on_cluster: Commands, shards: Path
) -> None:
    run = run_on_cluster
    write_space(run.folder, repeats="1")
    process = run("launch", "small.yaml", "--data", str(shards), "--json")
    outcome = json.loads(process.stdout)
    history = load_study(study(run)).history
    assert len(history.searched()) == 6
    check_rung_decisions(history, run)
    check_mlflow_has_the_history(run, history)
    assert {row["kind"] for row in outcome["leaderboard"]} == {"trial", "benchmark", "majority"}
    champion = history.trials[outcome["champion"]]
    check_the_selection(run, history, outcome)
    assert json.loads(run("results", "--json").stdout) == outcome["leaderboard"]
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


def test_one_slot_and_one_seed_give_the_same_study(run: Commands, shards: Path) -> None:
    write_space(run.folder, 2)
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
    run("launch", "small.yaml", "--data", str(shards), "--name", "three", "--seed", "5")
    assert [trial.hparams for trial in load_study(study(run, "three")).history.searched()] != [
        hparams for hparams, _status, _objective in numbers[0]
    ]


def test_a_finished_study_gets_more_trials_and_its_champion_is_still_the_best(
    run_on_cluster: Commands, shards: Path
) -> None:
    run = run_on_cluster
    write_space(run.folder, 1, stopping="{rule: none}")
    run("launch", "small.yaml", "--data", str(shards), "--trials", "2")
    for num_more in (1, 3):
        run("launch", "small.yaml", "--data", str(shards), "--resume", "--trials", f"+{num_more}")
    history = load_study(study(run)).history
    assert len(history.searched()) == 6
    selection = select(study(run), read_plan(study(run)), history)
    assert len(selection.candidates) == len(history.done())
    assert history.champion == selection.chosen.id
    check_mlflow_has_the_history(run, history)


def test_the_journal_leads_to_the_same_proposals(run_on_cluster: Commands, shards: Path) -> None:
    run = run_on_cluster
    write_space(run.folder, 1)
    run("launch", "small.yaml", "--data", str(shards), "--trials", "15")
    plan, events = read_plan(study(run)), Journal(study(run) / "journal").events
    policy = SearchPolicy(plan.space)
    for event in events:
        if isinstance(event, TrialStarted) and event.kind == "trial":
            decision = policy.next()
            assert decision is not None
            assert dataclasses.replace(decision, number=event.number, time=event.time) == event
        policy.apply(event)
    assert len(policy.history.searched()) == 15
