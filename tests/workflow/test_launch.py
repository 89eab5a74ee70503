"""Whole studies, with real Ray, real Optuna and a real MLflow store."""

import dataclasses
import io
import json
import os
import shutil
import signal
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
from raysearch.data.files import Folder
from raysearch.data.shards.sharding import write_shards
from raysearch.search.journal.history import History, Trial
from raysearch.search.journal.journal import Journal
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.scheduling.policy import SearchPolicy
from raysearch.search.study.fold_scores import out_of_fold, out_of_fold_again
from raysearch.search.study.study import read_history, read_plan
from raysearch.selection.decision_rule import decide
from raysearch.selection.selection import select

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
PARENT = "mlflow.parentRunId"
COSTS = {"effective_batch_size", "parameters", "flops", "samples_seen", "inference_ms"}
SPACE = """
objective: {metric: auroc, mode: max}
epochs: EPOCHS
trials: 6
seed: 4
sampler: tpe
stopping: {rule: asha, paired: 0}
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


def study(run: Commands, name: str = "small") -> StudyFolder:
    return StudyFolder(run.folder / "studies" / name)


def runs(run: Commands, name: str = "small") -> tuple[Run, list[Run], list[Run]]:
    """The parent run, its children, and the others of the study."""
    client = MlflowClient(tracking_uri=f"sqlite:///{run.folder}/mlflow.db")
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    found = list(client.search_runs([experiment.experiment_id], max_results=1000))
    (parent,) = [one for one in found if one.data.tags["kind"] == "study"]
    children = [one for one in found if one.data.tags.get(PARENT) == parent.info.run_id]
    rest = [one for one in found if one not in children and one is not parent]
    return parent, children, rest


def check_mlflow_tells_the_history(run: Commands, history: History) -> None:
    """MLflow holds each trial once, as it ended, and each report once."""
    parent, children, rest = runs(run)
    assert parent.info.status == "FINISHED"
    status = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
    told = {one.data.tags["raysearch.trial"]: one for one in children}
    assert len(told) == len(children)
    assert {name: one.info.status for name, one in told.items()} == {
        trial.id: status[trial.status] for trial in history.searched()
    }
    assert {one.data.tags["kind"] for one in rest} == {"benchmark", "majority"}
    client = MlflowClient(tracking_uri=f"sqlite:///{run.folder}/mlflow.db")
    for trial in history.searched():
        one = told[trial.id]
        points = client.get_metric_history(one.info.run_id, "objective")
        assert [(point.step, point.value) for point in points] == [
            (report["epoch"], report["objective"]) for report in trial.reports
        ]
        assert one.data.tags["reason"] == trial.reason
        assert one.data.params["learning_rate"] == str(trial.hparams["learning_rate"])
        assert trial.costs.keys() >= COSTS
        told_costs = one.data.metrics | one.data.params
        assert {name: float(told_costs[name]) for name in trial.costs} == trial.costs


def check_the_rungs_are_told_by_the_journal(history: History, run: Commands) -> None:
    """Every decision follows from the reports before it."""
    plan = read_plan(study(run))
    for trial in history.searched():
        rungs = [report for report in trial.reports if report["rung"]]
        kept = [history.is_promotable(trial, one["epoch"], 3, plan.space.mode) for one in rungs]
        whole = trial.folds * plan.space.epochs
        assert all(kept[:-1])
        if trial.status == "stopped":
            assert not kept[-1]
            assert trial.epoch < whole
        else:
            assert trial.status == "finished"
            assert trial.epoch == whole


def test_a_study_runs_on_two_nodes_and_everything_is_recorded(
    run_on_cluster: Commands, shards: Path
) -> None:
    run = run_on_cluster
    write_space(run.folder, repeats="1")
    done = run("launch", "small.yaml", "--data", str(shards), "--json")
    outcome = json.loads(done.stdout)
    history = read_history(study(run))
    assert len(history.searched()) == 6
    check_the_rungs_are_told_by_the_journal(history, run)
    check_mlflow_tells_the_history(run, history)
    assert {row["kind"] for row in outcome["leaderboard"]} == {"trial", "benchmark", "majority"}
    champion = history.trials[outcome["champion"]]
    check_the_selection(run, history, outcome)
    assert json.loads(run("results", "--json").stdout) == outcome["leaderboard"]
    check_scores_at_rungs(run, history, shards)
    check_the_pooled_auroc(run, champion, outcome["pooled_auroc"])
    check_the_fresh_seed(run, champion, outcome)
    check_the_registered_model(run, shards)
    parent, children, _rest = runs(run)
    for one in (parent, *children):
        assert one.data.tags["data_hash"] == read_plan(study(run)).fingerprint
        assert one.data.tags["seed"] == "4"
        assert len(one.data.tags["split_hash"]) == 64
    finished = next(one for one in children if one.info.status == "FINISHED")
    folds = [finished.data.metrics[f"fold_{fold}/auroc"] for fold in range(2)]
    assert finished.data.metrics["auroc"] == pytest.approx(np.mean(folds), abs=1e-12)


def check_the_selection(run: Commands, history: History, outcome: dict[str, Any]) -> None:
    """The champion is among the tied; what is locked with it is told alike everywhere."""
    found = select(study(run), read_plan(study(run)), history)
    assert outcome["tied"] == [one.trial.id for one in found.tied]
    assert outcome["champion"] == found.chosen.id == history.champion
    assert outcome["corrected"] == dataclasses.asdict(found.corrected)
    asked = {"margin": 0.005, "kind": "refit", "repeats": 1}
    assert history.locked == {**asked, **outcome["locked"]}
    client = MlflowClient(*[f"sqlite:///{run.folder}/mlflow.db"] * 2)
    tags = client.get_model_version_by_alias("small", "champion").tags
    assert tags["trial"] == outcome["champion"]
    assert float(tags["temperature"]) == pytest.approx(outcome["locked"]["temperature"], rel=1e-5)
    assert float(tags["threshold"]) == pytest.approx(outcome["locked"]["threshold"], rel=1e-5)


def check_scores_at_rungs(run: Commands, history: History, shards: Path) -> None:
    """The stored scores give the reported metric again, for the rows of their fold."""
    folder, plan = study(run), read_plan(study(run))
    for trial in history.searched():
        kept = [report for report in trial.reports if report["rung"] or report["epoch"] % 3 == 0]
        names = [f"{report['epoch']:05d}.parquet" for report in kept]
        assert (folder / f"scores/{trial.id}").names() == names
        for report in kept:
            raw = folder.read(folder.scores(trial.id, report["epoch"]))
            table = pq.read_table(io.BytesIO(raw))
            assert table.num_rows == plan.splits[0].patches[report["fold"]]
            margin = (
                table.column("logit_positive").to_numpy()
                - table.column("logit_negative").to_numpy()
            )
            auroc = roc_auc_score(table.column("label").to_numpy(), margin)
            assert auroc == pytest.approx(report["metrics"]["auroc"], abs=1e-6)
    assert shards.is_dir()


def check_the_pooled_auroc(run: Commands, champion: Trial, told: dict[str, float]) -> None:
    """It is that of both folds' last scores in one array, and lies within its interval."""
    folder = study(run)
    last = [folder.read(folder.scores(champion.id, epoch)) for epoch in (3, 6)]
    table = pa.concat_tables([pq.read_table(io.BytesIO(one)) for one in last])
    margin = table["logit_positive"].to_numpy() - table["logit_negative"].to_numpy()
    assert told["value"] == pytest.approx(
        roc_auc_score(table["label"].to_numpy(), margin), abs=1e-6
    )
    assert told["low"] < told["value"] < told["high"]


def check_the_fresh_seed(run: Commands, champion: Trial, outcome: dict[str, Any]) -> None:
    """It is not the trial's own, and what it gave is told everywhere by the stored scores."""
    (fresh,) = outcome["fresh"]
    folder, plan = study(run), read_plan(study(run))
    assert (folder / f"again/{champion.id}").names() == [str(fresh["seed"])]
    assert fresh["seed"] != champion.seed
    rows = out_of_fold_again(folder, plan, champion.id, fresh["seed"], range(2))
    assert rows is not None
    value = roc_auc_score(rows.labels, rows.probabilities[:, 1])
    assert fresh["objective"]["value"] == pytest.approx(value, abs=1e-9)
    assert fresh["objective"]["value"] != outcome["objective"]["value"]
    before = out_of_fold(folder, plan, champion.id, 2)
    searched = roc_auc_score(before.labels, before.probabilities[:, 1])
    assert outcome["objective"]["value"] == pytest.approx(searched, abs=1e-9)
    assert runs(run)[0].data.metrics["objective_fresh"] == fresh["objective"]["value"]
    client = MlflowClient(*[f"sqlite:///{run.folder}/mlflow.db"] * 2)
    tags = client.get_model_version_by_alias("small", "champion").tags
    assert tags["auroc_fresh"].startswith(f"{value:.4f} (")
    assert tags["kind"] == "refit"


def check_the_registered_model(run: Commands, shards: Path) -> None:
    """The champion loads by its alias and gives probabilities; nothing of it is a pickle."""
    import mlflow

    from raysearch.data.patches import load_patches

    store = f"sqlite:///{run.folder}/mlflow.db"
    mlflow.set_tracking_uri(store)
    mlflow.set_registry_uri(store)
    before = Path.cwd()
    os.chdir(run.folder)
    try:
        model = mlflow.pyfunc.load_model("models:/small@champion")
        patches = load_patches(str(shards))
        batch = np.array(patches.pixels[:7]).reshape(7, 50, 50, 3)
        answer = np.asarray(model.predict(batch))
    finally:
        os.chdir(before)
    assert answer.shape == (7, 2)
    assert np.allclose(answer.sum(axis=1), 1, atol=1e-5)
    assert model.metadata.signature is not None
    artifacts = [path.name for path in run.folder.rglob("*") if "mlruns" in str(path)]
    assert not [name for name in artifacts if name.endswith((".pkl", ".pickle", ".pth"))], artifacts


def test_one_slot_and_one_seed_give_the_same_study(run: Commands, shards: Path) -> None:
    write_space(run.folder, 2)
    text = (run.folder / "small.yaml").read_text().replace("{cpus: 1}", "{cpus: 2}")
    (run.folder / "small.yaml").write_text(text.replace("trials: 6", "trials: 12"))
    numbers = []
    for name in ("one", "two"):
        run("launch", "small.yaml", "--data", str(shards), "--name", name)
        history = read_history(study(run, name))
        numbers.append([(one.hparams, one.status, one.objective) for one in history.searched()])
    assert len(numbers[0]) == 12
    assert numbers[0] == numbers[1]
    run("launch", "small.yaml", "--data", str(shards), "--name", "three", "--seed", "5")
    assert [one.hparams for one in read_history(study(run, "three")).searched()] != [
        hparams for hparams, _status, _objective in numbers[0]
    ]


def wait_for_reports(run: Commands, count: int, timeout_s: float = 200) -> None:
    """Wait until the study's journal has `count` reports of searched trials."""
    until = time.monotonic() + timeout_s
    folder = study(run)
    while time.monotonic() < until:
        if folder.exists(folder.JOURNAL):
            events = Journal(folder / folder.JOURNAL).events
            found = [one for one in events if one["event"] == "report" and one["trial"][0] == "t"]
            if len(found) >= count:
                return
        time.sleep(0.3)
    pytest.fail(f"no {count} reports within {timeout_s} s")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_study_that_was_ended_goes_on_as_if_it_had_not_been(
    run: Commands, shards: Path, how: signal.Signals
) -> None:
    rule = {9: "promotion", 2: "forest", 15: "asha"}[how.value]
    sampler = "forest" if rule == "forest" else "tpe"
    write_space(run.folder, epochs=8, stopping=f"{{rule: {rule}}}", sampler=sampler)
    first = run.start("launch", "small.yaml", "--data", str(shards))
    wait_for_reports(run, 12)
    began = time.monotonic()
    first.send_signal(how)
    out, err = first.communicate(timeout=60)
    assert first.returncode == {9: -9, 2: 130, 15: 143}[how.value], out + err
    if how is not signal.SIGKILL:
        assert time.monotonic() - began < 30
        assert "--resume" in out
        assert "Traceback" not in out + err
    before = Journal(study(run) / "journal").events
    assert (
        "exists already"
        in run("launch", "small.yaml", "--data", str(shards), "--name", "small", code=2).stderr
    )
    reject_another_space(run, shards)
    moved = run.folder / "moved"  # the data may lie elsewhere by now
    shutil.copytree(shards, moved)
    run("launch", "small.yaml", "--data", str(moved), "--resume")
    after = Journal(study(run) / "journal").events
    assert after[: len(before)] == before
    history = read_history(study(run))
    assert len(history.searched()) == 6
    assert "failed" not in {one.status for one in history.trials.values()}
    reports = [(one["trial"], one["epoch"]) for one in after if one["event"] == "report"]
    assert len(reports) == len(set(reports))
    for trial in history.searched():
        assert [one["epoch"] for one in trial.reports] == list(range(1, trial.epoch + 1))
    check_decisions_come_again(run)
    if rule == "asha":
        check_the_rungs_are_told_by_the_journal(history, run)
    check_mlflow_tells_the_history(run, history)
    check_only_the_best_has_a_checkpoint(run, history)


def under_way(run: Commands) -> list[Path]:
    """The checkpoints of trials that have not finished."""
    names = study(run).names(StudyFolder.CHECKPOINTS)
    known = read_history(study(run)).searched() if names else []
    folder = study(run).local / StudyFolder.CHECKPOINTS
    ids = {one.id for one in known if one.status != "finished"}
    return [folder / one for one in names if one.removesuffix(".pt") in ids]


def test_a_trial_whose_checkpoint_is_damaged_begins_again_with_a_warning(
    run: Commands, shards: Path
) -> None:
    epochs = 120  # so long that the ten seconds to a checkpoint end within the training
    write_space(run.folder, epochs=epochs, trials="2", stopping="{rule: none}")
    first = run.start("launch", "small.yaml", "--data", str(shards))
    until = time.monotonic() + 120
    while not under_way(run) and time.monotonic() < until:
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=60)
    assert first.returncode == 130, out + err
    before = Journal(study(run) / "journal").events
    kept = under_way(run)
    for path in kept:
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    done = run("launch", "small.yaml", "--data", str(shards), "--resume")
    told = [line for line in (done.stdout + done.stderr).splitlines() if "begins again" in line]
    assert len(told) == len(kept) > 0
    assert all(f"{path}: the checkpoint's hash" in " ".join(told) for path in kept)
    after = Journal(study(run) / "journal").events
    assert after[: len(before)] == before
    history = read_history(study(run))
    for trial in history.searched():
        assert (trial.status, trial.epoch) == ("finished", 2 * epochs)
        assert [one["epoch"] for one in trial.reports] == list(range(1, 2 * epochs + 1))
    check_mlflow_tells_the_history(run, history)


def check_decisions_come_again(run: Commands) -> None:
    """A course that knows the journal up to each of its decisions decides the same."""
    policy = SearchPolicy(read_plan(study(run)).space)
    for event in Journal(study(run) / "journal").events:
        again = None
        if event["event"] == "promote" or event.get("kind") == "trial":
            again = policy.next()
        if event["event"] == "pause":
            again = policy.decision(policy.history.trials[event["trial"]])
        if again is not None:
            assert {**event, **again} == event
        policy.take(event)


def test_a_finished_study_gets_more_trials_and_its_champion_is_still_the_best(
    run_on_cluster: Commands, shards: Path
) -> None:
    run = run_on_cluster
    write_space(run.folder, 1, stopping="{rule: none}")
    run("launch", "small.yaml", "--data", str(shards), "--trials", "2")
    for more in (1, 3):
        run("launch", "small.yaml", "--data", str(shards), "--resume", "--trials", f"+{more}")
    history = read_history(study(run))
    assert len(history.searched()) == 6
    found = select(study(run), read_plan(study(run)), history)
    assert len(found.candidates) == len(history.done())
    assert history.champion == found.chosen.id
    check_mlflow_tells_the_history(run, history)


def reject_another_space(run: Commands, shards: Path) -> None:
    path = run.folder / "small.yaml"
    text = path.read_text()
    path.write_text(text.replace("[16, 32]", "[16, 64]"))
    said = run("launch", "small.yaml", "--data", str(shards), "--resume", code=2).stderr
    assert "space.batch_size was choice 16, 32, is choice 16, 64" in said
    path.write_text(text)


def check_only_the_best_has_a_checkpoint(run: Commands, history: History) -> None:
    best = max(history.done(), key=lambda one: one.final_objective)
    assert study(run).names(StudyFolder.CHECKPOINTS) == [f"{best.id}.pt"]


def test_a_second_launcher_is_rejected_with_the_firsts_process(run: Commands, shards: Path) -> None:
    write_space(run.folder, epochs=8)
    first = run.start("launch", "small.yaml", "--data", str(shards))
    wait_for_reports(run, 1)
    said = run("launch", "small.yaml", "--data", str(shards), "--resume", code=2).stderr
    assert f"being run by process {first.pid} on" in said
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert first.returncode == 130


def test_lost_workers_do_not_lose_their_trials(run: Commands, shards: Path) -> None:
    write_space(run.folder, epochs=8)
    first = run.start("launch", "small.yaml", "--data", str(shards))
    wait_for_reports(run, 4)
    workers = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if b"ray::ImplicitFunc" in content(path) and session_of(path) == first.pid
    ]
    assert len(workers) == 2  # every slot's
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    out, err = first.communicate(timeout=400)
    assert first.returncode == 0, out + err
    history = read_history(study(run))
    assert [one.status for one in history.trials.values()].count("failed") == 0
    for trial in history.searched():
        assert [one["epoch"] for one in trial.reports] == list(range(1, trial.epoch + 1))
    check_the_rungs_are_told_by_the_journal(history, run)
    check_mlflow_tells_the_history(run, history)


def test_shards_that_are_damaged_fail_no_trial(run_on_cluster: Commands) -> None:
    """The error is in the pixels, which the plan does not read; put right, the study goes on."""
    run = run_on_cluster
    write_space(run.folder, 1)
    data = run.folder / "data"
    write_shards("12:240:9", data, "synthetic", workers=1)
    part = next(data.glob("part-*.parquet"))
    good = part.read_bytes()
    part.write_bytes(good[:5000] + bytes([good[5000] ^ 1]) + good[5001:])
    said = run("launch", "small.yaml", "--data", str(data), code=2).stderr
    assert "its hash is not the manifest's" in said
    assert "go on with --resume" in said
    assert said.count("\n") == 1
    assert not [one for one in read_history(study(run)).trials.values() if one.status == "failed"]
    part.write_bytes(good)
    run("launch", "small.yaml", "--data", str(data), "--resume")
    assert len(read_history(study(run)).searched()) == 6


def test_a_champion_is_registered_once_whatever_was_left_undone(
    run_on_cluster: Commands, shards: Path
) -> None:
    run = run_on_cluster
    write_space(run.folder, 1)
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


def test_a_selection_by_other_options_moves_the_alias_and_is_kept(
    run_on_cluster: Commands, shards: Path
) -> None:
    run = run_on_cluster
    write_space(run.folder, 1, stopping="{rule: none}")
    words = ("launch", "small.yaml", "--data", str(shards), "--name", "small")
    first = json.loads(run(*words, "--trials", "3", "--json").stdout)
    assert (first["kind"], first["fresh"], first["version"]) == ("refit", [], "1")
    asked = ("select", "small", "--margin", "1", "--threshold-by", "f1")
    found = json.loads(run(*asked, "--ensemble", "--repeats", "1", "--json").stdout)
    assert sorted(found["tied"]) == ["t0000", "t0001", "t0002"]
    fastest = min(one["inference_ms"] for one in found["candidates"])
    (chosen,) = [one for one in found["candidates"] if one["chosen"]]
    assert chosen["inference_ms"] <= 1.1 * fastest
    assert found["champion"] == chosen["trial"]
    assert found["locked"]["criterion"] == "f1"
    check_the_ensemble(run, found)
    folder, seed = study(run), found["fresh"][0]["seed"]
    # As a launcher leaves it that was killed between the folds.
    folder.remove(folder.again_scores(found["champion"], seed, 1))
    kept = folder.modified(folder.again_scores(found["champion"], seed, 0))
    again = json.loads(run(*words, "--resume", "--json").stdout)
    told = ("champion", "locked", "kind", "fresh", "version")
    assert {name: again[name] for name in told} == {name: found[name] for name in told}
    assert folder.modified(folder.again_scores(found["champion"], seed, 0)) == kept
    check_the_registered_model(run, shards)
    back = json.loads(run(*asked, "--refit", "--json").stdout)
    assert (back["kind"], back["champion"]) == ("refit", found["champion"])
    client = MlflowClient(*[f"sqlite:///{run.folder}/mlflow.db"] * 2)
    version = client.get_model_version_by_alias("small", "champion")
    assert (version.tags["trial"], version.tags["kind"]) == (found["champion"], "refit")
    assert version.tags["threshold_by"] == "f1"
    kept_versions = client.search_model_versions("name = 'small'")
    assert len(kept_versions) == 1 + len({first["champion"], found["champion"]})
    check_mlflow_tells_the_history(run, read_history(study(run)))


def check_the_ensemble(run: Commands, found: dict[str, Any]) -> None:
    """What is locked with it is fitted on its members' scores, and the registry says what it is."""
    history, (fresh,) = read_history(study(run)), found["fresh"]
    assert history.locked["kind"] == found["kind"] == "ensemble"
    assert history.locked["seed"] == fresh["seed"]
    plan, champion = read_plan(study(run)), found["champion"]
    rows = out_of_fold_again(study(run), plan, champion, fresh["seed"], range(2))
    assert rows is not None
    assert found["locked"] == decide(rows, "f1").told
    assert fresh["objective"]["value"] == pytest.approx(found["pooled_auroc"]["value"], abs=1e-9)
    client = MlflowClient(*[f"sqlite:///{run.folder}/mlflow.db"] * 2)
    tags = client.get_model_version_by_alias("small", "champion").tags
    assert (tags["trial"], tags["kind"]) == (champion, "ensemble")


def content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def session_of(path: Path) -> int:
    return os.getsid(int(path.parent.name))


def test_a_course_fed_with_the_journal_decides_the_same_again(
    run_on_cluster: Commands, shards: Path
) -> None:
    run = run_on_cluster
    write_space(run.folder, 1)
    run("launch", "small.yaml", "--data", str(shards), "--trials", "15")
    plan, events = read_plan(study(run)), Journal(study(run) / "journal").events
    policy = SearchPolicy(plan.space)
    for event in events:
        if event["event"] == "trial" and event["kind"] == "trial":
            asked = policy.next()
            assert asked is not None
            assert {**event, **asked} == event
        policy.take(event)
    assert len(policy.history.searched()) == 15


def test_a_study_lives_on_s3_with_its_data_and_goes_on_there(
    run_on_cluster: Commands, bucket: str, shards: Path
) -> None:
    run = run_on_cluster
    data = Folder(f"{bucket}/small")
    for path in shards.glob("*.*"):
        data.write(path.name, path.read_bytes())
    write_space(run.folder, 2)
    words = ("launch", "small.yaml", "--data", data.address, "--studies", f"{bucket}/studies")
    run(*words)
    folder = StudyFolder(f"{bucket}/studies/small")
    history = read_history(folder)
    assert [trial.status for trial in history.searched()].count("running") == 0
    assert len(history.searched()) == 6
    assert folder.exists("champion.pt")
    assert not (run.folder / "studies").exists()
    out = run("results", "--studies", f"{bucket}/studies").stdout
    assert "Leaderboard of small" in out
    before = Journal(folder / "journal").events
    run(*words, "--resume")
    after = Journal(folder / "journal").events
    assert [event["event"] for event in after[len(before) :]] == ["launch"]
    check_mlflow_tells_the_history(run, history)
