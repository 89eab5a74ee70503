"""Studies launched by the command line, and checks of what they leave."""

from __future__ import annotations

import dataclasses
import io
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from sklearn.metrics import roc_auc_score

from conftest import Commands
from raysearch.search.journal.codec import record_from_json
from raysearch.search.journal.events import (
    ChampionDecision,
    Event,
    FoldReport,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
)
from raysearch.search.journal.history import History, Trial
from raysearch.search.journal.journal import Journal
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.scheduling.policy import SearchPolicy
from raysearch.search.study.fold_scores import out_of_fold, repeat_out_of_fold
from raysearch.search.study.stored_study import load_study, read_plan
from raysearch.selection.decision_rule import fit_decision_rule
from raysearch.selection.selection import select
from support.empty_tracking_store import add_tracking_store

PARENT = "mlflow.parentRunId"
COSTS = {"effective_batch_size", "parameters", "flops", "samples_seen", "inference_ms"}
SPACE = """
objective: {metric: auroc, mode: max}
epochs: EPOCHS
trials: 6
seed: 4
sampler: tpe
stopping: {rule: asha, paired_alpha: 0}
resources: {cpus: 1}
repeats: 0
space:
  folds: 2
  architecture: cnn
  convolutions: 1
  width: {choice: [4, 8]}
  optimizer: {choice: [adamw, sgd]}
  momentum: {uniform: [0.5, 0.9], when: {optimizer: sgd}}
  learning_rate: {loguniform: [1.0e-3, 1.0e-2]}
  batch_size: {choice: [16, 32]}
"""


def write_space(folder: Path, epochs: int = 3, **changes: str) -> None:
    text = SPACE.replace("EPOCHS", str(epochs))
    for before, after in changes.items():
        text = text.replace(f"{before}: ", f"{before}: {after} #")
    (folder / "small.yaml").write_text(text)


def prepare_launch(folder: Path, epochs: int = 3, **changes: str) -> None:
    """Write the space, and the tracking store that an earlier launch has made."""
    write_space(folder, epochs, **changes)
    add_tracking_store(folder)


def study(run: Commands, name: str = "small") -> StudyFolder:
    return StudyFolder(run.folder / "studies" / name)


def runs(commands: Commands, name: str = "small") -> tuple[Run, list[Run], list[Run]]:
    """Return the parent run of a study, its children, and its baselines."""
    client = MlflowClient(tracking_uri=f"sqlite:///{commands.folder}/mlflow.db")
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    all_runs = list(client.search_runs([experiment.experiment_id], max_results=1000))
    (parent,) = [run for run in all_runs if run.data.tags["kind"] == "study"]
    children = [run for run in all_runs if run.data.tags.get(PARENT) == parent.info.run_id]
    baselines = [run for run in all_runs if run not in children and run is not parent]
    return parent, children, baselines


def check_mlflow_has_the_history(run: Commands, history: History) -> None:
    """Check that MLflow has each trial and each report once."""
    parent, children, baselines = runs(run)
    assert parent.info.status == "FINISHED"
    status = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
    by_trial = {child.data.tags["raysearch.trial"]: child for child in children}
    assert len(by_trial) == len(children)
    assert {name: child.info.status for name, child in by_trial.items()} == {
        trial.id: status[trial.status] for trial in history.searched()
    }
    assert {baseline.data.tags["kind"] for baseline in baselines} == {"benchmark", "majority"}
    client = MlflowClient(tracking_uri=f"sqlite:///{run.folder}/mlflow.db")
    for trial in history.searched():
        child = by_trial[trial.id]
        points = client.get_metric_history(child.info.run_id, "objective")
        assert [(point.step, point.value) for point in points] == [
            (report.epoch, report.objective) for report in trial.reports
        ]
        assert child.data.tags["reason"] == trial.reason
        assert child.data.params["learning_rate"] == str(trial.hparams["learning_rate"])
        costs = trial.costs.by_name()
        assert costs.keys() >= COSTS
        logged = child.data.metrics | child.data.params
        assert {name: float(logged[name]) for name in costs} == costs


def check_rung_decisions(history: History, run: Commands) -> None:
    """Check that every decision follows from the reports before it."""
    plan = read_plan(study(run))
    for trial in history.searched():
        epochs = [report.epoch for report in trial.reports if report.rung]
        promotable = [history.is_promotable(trial, epoch, 3, plan.space.mode) for epoch in epochs]
        end = plan.total_fold_epochs(trial.folds)
        assert all(promotable[:-1])
        if trial.status == "stopped":
            assert not promotable[-1]
            assert trial.epoch < end
        else:
            assert trial.status == "finished"
            assert trial.epoch == end


def check_the_selection(run: Commands, history: History, outcome: dict[str, Any]) -> None:
    """Check the champion, and that its decision rule is the same everywhere."""
    selection = select(study(run), read_plan(study(run)), history)
    assert outcome["tied"] == [candidate.trial.id for candidate in selection.tied]
    assert outcome["champion"] == selection.chosen.id == history.champion
    assert outcome["corrected"] == dataclasses.asdict(selection.corrected)
    decision = history.champion_decision
    assert decision is not None
    assert (decision.margin, decision.kind, decision.repeats) == (0.005, "refit", 1)
    assert decision == record_from_json(ChampionDecision, outcome["decision"])
    client = MlflowClient(*[f"sqlite:///{run.folder}/mlflow.db"] * 2)
    tags = client.get_model_version_by_alias("small", "champion").tags
    assert tags["trial"] == outcome["champion"]
    assert float(tags["temperature"]) == pytest.approx(decision.temperature, rel=1e-5)
    assert float(tags["threshold"]) == pytest.approx(decision.threshold, rel=1e-5)


def check_scores_at_rungs(run: Commands, history: History, shards: Path) -> None:
    """Check that the stored scores give the reported metric of their fold."""
    folder, plan = study(run), read_plan(study(run))
    for trial in history.searched():
        scored = [report for report in trial.reports if report.rung or report.epoch % 3 == 0]
        hashes = trial.score_hashes
        names = [f"{report.epoch:05d}-{hashes[report.epoch][:8]}.parquet" for report in scored]
        assert (folder / f"scores/{trial.id}").names() == names
        for report in scored:
            file = folder.read(folder.scores(trial.id, report.epoch, hashes[report.epoch]))
            table = pq.read_table(io.BytesIO(file))
            assert table.num_rows == plan.splits[0].patches[report.fold]
            margin = (
                table.column("logit_positive").to_numpy()
                - table.column("logit_negative").to_numpy()
            )
            auroc = roc_auc_score(table.column("label").to_numpy(), margin)
            assert auroc == pytest.approx(report.metrics["auroc"], abs=1e-6)
    assert shards.is_dir()


def check_the_pooled_auroc(run: Commands, champion: Trial, interval: dict[str, float]) -> None:
    """Check the AUROC of both folds' last scores together, and its interval."""
    folder = study(run)
    hashes = champion.score_hashes
    files = [folder.read(folder.scores(champion.id, epoch, hashes[epoch])) for epoch in (3, 6)]
    table = pa.concat_tables([pq.read_table(io.BytesIO(file)) for file in files])
    margin = table["logit_positive"].to_numpy() - table["logit_negative"].to_numpy()
    assert interval["value"] == pytest.approx(
        roc_auc_score(table["label"].to_numpy(), margin), abs=1e-6
    )
    assert interval["low"] < interval["value"] < interval["high"]


def check_the_repeat(run: Commands, champion: Trial, outcome: dict[str, Any]) -> None:
    """Check that the repeat has a new seed, and its objective is that of the stored scores."""
    (repeat,) = outcome["repeats"]
    folder, plan = study(run), read_plan(study(run))
    assert (folder / f"repeats/{champion.id}").names() == [str(repeat["seed"])]
    assert repeat["seed"] != champion.seed
    rows = repeat_out_of_fold(folder, plan, champion, repeat["seed"], range(2))
    assert rows is not None
    value = roc_auc_score(rows.labels, rows.probabilities[:, 1])
    assert repeat["objective"]["value"] == pytest.approx(value, abs=1e-9)
    assert repeat["objective"]["value"] != outcome["objective"]["value"]
    searched_rows = out_of_fold(folder, plan, champion)
    searched = roc_auc_score(searched_rows.labels, searched_rows.probabilities[:, 1])
    assert outcome["objective"]["value"] == pytest.approx(searched, abs=1e-9)
    assert runs(run)[0].data.metrics["objective_repeats"] == repeat["objective"]["value"]
    client = MlflowClient(*[f"sqlite:///{run.folder}/mlflow.db"] * 2)
    tags = client.get_model_version_by_alias("small", "champion").tags
    assert tags["auroc_repeats"].startswith(f"{value:.4f} (")
    assert tags["kind"] == "refit"


def check_the_registered_model(run: Commands, shards: Path) -> None:
    """Check that the champion loads by its alias, gives probabilities and contains no pickle."""
    import mlflow

    from raysearch.data.shards.patches import load_patches
    from raysearch.search.tracking.tracking_store import global_store

    store = f"sqlite:///{run.folder}/mlflow.db"
    working_folder = Path.cwd()
    os.chdir(run.folder)
    try:
        with global_store(store):
            model = mlflow.pyfunc.load_model("models:/small@champion")
        patches = load_patches(str(shards))
        batch = np.array(patches.pixels[:7]).reshape(7, 50, 50, 3)
        answer = model.predict(batch)
    finally:
        os.chdir(working_folder)
    scores = answer[[f"score_{name}" for name in patches.class_names]].to_numpy()
    assert scores.shape == (7, 2)
    assert np.allclose(scores.sum(axis=1), 1, atol=1e-5)
    assert set(answer["decision"]) <= set(patches.class_names)
    assert model.metadata.signature is not None
    artifacts = [path.name for path in run.folder.rglob("*") if "mlruns" in str(path)]
    assert not [name for name in artifacts if name.endswith((".pkl", ".pickle", ".pth"))], artifacts


def num_reports(run: Commands, name: str = "small") -> int:
    """Count the reports of searched trials in the journal of a study."""
    folder = study(run, name)
    if not folder.exists(folder.JOURNAL):
        return 0
    events = Journal(folder / folder.JOURNAL).events
    reports = [event for event in events if isinstance(event, FoldReport)]
    return sum(report.trial.startswith("t") for report in reports)


def wait_for_reports(
    run: Commands, count: int, timeout_s: float = 200, name: str = "small"
) -> None:
    """Wait until the journal of a study has `count` reports of searched trials."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if num_reports(run, name) >= count:
            return
        time.sleep(0.3)
    pytest.fail(f"no {count} reports within {timeout_s} s")


def unfinished_checkpoints(run: Commands) -> list[Path]:
    """Return the checkpoints of trials that have not finished."""
    names = study(run).names(StudyFolder.CHECKPOINTS)
    trials = load_study(study(run)).history.searched() if names else []
    folder = study(run).local / StudyFolder.CHECKPOINTS
    ids = {trial.id for trial in trials if trial.status != "finished"}
    return [folder / name for name in names if name.removesuffix(".pt") in ids]


def check_repeated_decisions(run: Commands) -> None:
    """Check that a policy with the events before each decision makes the same decision."""
    policy = SearchPolicy(read_plan(study(run)).space)
    for event in Journal(study(run) / "journal").events:
        decision: Event | None = None
        match event:
            case TrialPromoted() | TrialStarted(kind="trial"):
                decision = policy.next()
            case TrialPaused(name):
                decision = policy.decide(policy.history.trials[name])
        if decision is not None:
            assert dataclasses.replace(decision, number=event.number, time=event.time) == event
        policy.apply(event)


def reject_another_space(run: Commands, shards: Path) -> None:
    path = run.folder / "small.yaml"
    text = path.read_text()
    path.write_text(text.replace("[16, 32]", "[16, 64]"))
    error = run("launch", "small.yaml", "--data", str(shards), "--resume", code=2).stderr
    assert "space.batch_size was choice 16, 32, is choice 16, 64" in error
    path.write_text(text)


def check_only_the_best_trial_has_a_checkpoint(run: Commands, history: History) -> None:
    best = max(history.done(), key=lambda trial: trial.final_objective)
    assert study(run).names(StudyFolder.CHECKPOINTS) == [f"{best.id}.pt"]


def check_the_ensemble(run: Commands, selected: dict[str, Any]) -> None:
    """Check that the decision rule is fitted to its members' scores, and the registry's tags."""
    (repeat,) = selected["repeats"]
    decision = load_study(study(run)).history.champion_decision
    assert decision == record_from_json(ChampionDecision, selected["decision"])
    assert (decision.kind, decision.seed) == ("ensemble", repeat["seed"])
    plan, history = read_plan(study(run)), load_study(study(run)).history
    champion = history.trials[selected["champion"]]
    rows = repeat_out_of_fold(study(run), plan, champion, repeat["seed"], range(2))
    assert rows is not None
    rule = fit_decision_rule(rows, "f1")
    assert (decision.temperature, decision.threshold) == (rule.temperature, rule.threshold)
    assert (decision.error_before, decision.error) == (rule.error_before, rule.error)
    assert repeat["objective"]["value"] == pytest.approx(
        selected["pooled_auroc"]["value"], abs=1e-9
    )
    client = MlflowClient(*[f"sqlite:///{run.folder}/mlflow.db"] * 2)
    tags = client.get_model_version_by_alias("small", "champion").tags
    assert (tags["trial"], tags["kind"]) == (champion.id, "ensemble")


def read_bytes_or_nothing(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def session_of(path: Path) -> int:
    return os.getsid(int(path.parent.name))
