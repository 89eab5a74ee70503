"""What a study decides and remembers, without Ray."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from raysearch.cli.live_table import LiveView, StudyView
from raysearch.cli.tables import champion_table, leaderboard_table
from raysearch.config.space_file import parse_space
from raysearch.errors import StorageError, StudyError, UserError
from raysearch.search.journal.history import History, Trial, leaderboard
from raysearch.search.journal.journal import Journal
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.sampling.sampler import told
from raysearch.search.study.baselines import record_majority
from raysearch.search.study.launcher_lock import launcher_lock
from raysearch.search.study.plan import Plan, load_plan, make_plan, reject_changes
from raysearch.search.study.study import Study, create_study, read_plan, read_splits
from raysearch.training.numerics import Numerics
from support.result_studies import TREE, feed, new_study, next_searched, quality, report


@pytest.fixture
def plan(shards: Path) -> Plan:
    return make_plan(parse_space(TREE, "x"), "x", str(shards))[0]


@pytest.fixture
def study(plan: Plan, shards: Path, tmp_path: Path) -> Study:
    splits = make_plan(parse_space(TREE, "x"), "x", str(shards))[1]
    return create_study(StudyFolder(tmp_path / "x"), plan, splits)


def finish(study: Study, most: int = 10**6) -> None:
    while most and (trial := study.next_trial()) is not None:
        if trial.kind == "benchmark":
            study.fail(trial.id, "not of interest here")
        else:
            feed(study, trial)
        most -= 1


def outcome(history: History) -> list[tuple[Any, ...]]:
    return [(one.id, one.hparams, one.status, one.epoch) for one in history.trials.values()]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_warning_is_told_by_the_launcher_and_changes_nothing_else(
    study: Study, terminal: bool
) -> None:
    text = Console(width=200, file=io.StringIO(), force_terminal=terminal)
    study.begin()
    trial = study.next_trial()
    assert trial is not None
    with LiveView(text) as view:
        view.study(study)
        before = outcome(study.history)
        study.warn(trial.id, "[/y/z.pt]: damaged; the trial begins again")
        assert outcome(study.history) == before
    assert isinstance(text.file, io.StringIO)
    assert f"{trial.id}: [/y/z.pt]: damaged; the trial begins again" in text.file.getvalue()
    again = Study(study.folder, study.plan)
    assert again.journal.events[-1]["event"] == "warning"
    assert outcome(again.history) == before


def test_a_reason_with_brackets_is_printed_as_it_is(study: Study) -> None:
    study.begin()
    trial = study.next_trial()
    assert trial is not None
    study.fail(trial.id, "RuntimeError at [/y/z.cpp:3]")
    text = Console(width=200, file=io.StringIO(), record=True)
    text.print(leaderboard_table(study.plan, study.history, 200))
    assert "[/y/z.cpp:3]" in text.export_text()


def test_of_many_folds_a_table_says_where_they_lie(plan: Plan) -> None:
    for folds, shown in ((3, "fold 2"), (9, "lowest")):
        trial = Trial("t0000", "trial", {}, 0, folds)
        for fold in range(folds):
            values = dict.fromkeys(("auroc", "average_precision", "accuracy", "f1"), fold / 10)
            metrics = values | {"balanced_accuracy": None if fold == 1 else 0.5}
            trial.reports.append({"epoch": (fold + 1) * plan.space.epochs, "metrics": metrics})
        text = Console(width=200, file=io.StringIO(), record=True)
        text.print(champion_table(plan, trial))
        table = text.export_text()
        assert shown in table
        assert ("fold 2" in table) == (folds == 3)
        (auroc,) = [line for line in table.splitlines() if "auroc" in line]
        numbers = [float(one) for one in re.findall(r"\d\.\d+", auroc)]
        assert numbers == ([0, 0.1, 0.2, 0.1] if folds == 3 else [0, 0.4, 0.8, 0.4])
        (balanced,) = [line for line in table.splitlines() if "balanced" in line]
        assert re.findall(r"(-|0\.\d+) +│", balanced)[-1] == "-"  # a mean over all folds, or none


def test_a_trial_that_is_put_back_goes_on_later(study: Study) -> None:
    study.begin()
    finish(study, 1)
    trial = study.next_trial()
    assert trial is not None
    study.report(trial.id, report(1, 0.5))
    study.requeue(trial.id)
    study.requeue(trial.id)
    assert study.next_trial() is trial
    other = study.next_trial()
    assert other is not None
    assert other is not trial
    assert study.halted is None


def test_a_study_whose_workers_cannot_train_halts_and_goes_on_when_they_can(study: Study) -> None:
    study.begin()
    finish(study, 1)
    trial = study.next_trial()
    assert trial is not None
    study.requeue(trial.id, "host: no room")
    study.requeue(trial.id, "host: no room")
    assert study.next_trial() is trial
    study.report(trial.id, report(1, 0.5))  # a report says that they can
    for _ in range(3):
        assert study.halted is None
        study.requeue(trial.id, "host: no room")
    assert study.halted == "host: no room"
    assert study.next_trial() is None
    assert not study.report(trial.id, report(2, 0.5))
    again = Study(study.folder, study.plan)
    again.begin()
    resumed = again.next_trial()
    assert resumed is not None
    assert (resumed.id, resumed.epoch, resumed.status) == (trial.id, 1, "running")


def test_a_split_that_is_not_the_plans_is_rejected(study: Study) -> None:
    folder = study.folder
    good = folder.read(folder.SPLITS)
    assert read_splits(folder, study.plan)[2]
    for bad in (good[:-9], good.replace(b"p000", b"p009", 1), b"[]", b"{}"):
        folder.write(folder.SPLITS, bad)
        with pytest.raises(StudyError, match=r"splits\.json: missing or not the plan's"):
            read_splits(folder, study.plan)


def test_an_undefined_objective_is_null_and_ranks_last(shards: Path, tmp_path: Path) -> None:
    tree = TREE | {"objective": {"metric": "precision"}}
    plan, splits = make_plan(parse_space(tree, "x"), "x", str(shards))
    study = create_study(StudyFolder(tmp_path / "x"), plan, splits)
    record_majority(study)
    trial = study.next_trial()
    assert trial is not None
    for epoch in range(1, study.whole(trial) + 1):
        study.report(trial.id, report(epoch, 0.01) | {"metrics": {"precision": 0.01}})
    ranked = leaderboard(study.history, "max")
    assert [one.id for one in ranked] == ["benchmark", "majority"]
    assert ranked[-1].objective is None
    text = Console(width=200, file=io.StringIO(), record=True)
    text.print(leaderboard_table(plan, study.history, 200))
    [line] = [one for one in text.export_text().splitlines() if " majority " in one]
    assert [cell.strip() for cell in line.split("│")[3:5]] == ["-", "- -"]


def test_several_numbers_of_folds_are_ranked_and_shown_by_pooled_scores(
    shards: Path, tmp_path: Path
) -> None:
    tree = TREE | {"stopping": {"rule": "none"}}
    tree["space"] = tree["space"] | {"folds": {"choice": [2, 3]}}
    study = new_study(shards, tmp_path / "x", tree)
    for objective, pooled in ((0.9, 0.7), (0.8, 0.75)):
        trial = next_searched(study)
        for epoch in range(1, study.whole(trial) + 1):
            last = {"pooled": pooled} if epoch == study.whole(trial) else {}
            study.report(trial.id, report(epoch, objective) | last)
    text = Console(width=200, file=io.StringIO(), record=True)
    text.print(leaderboard_table(study.plan, study.history, 200))
    lines = text.export_text(clear=False).splitlines()
    rows = [[cell.strip() for cell in one.split("│")[1:5]] for one in lines if " finished " in one]
    assert rows[:2] == [
        ["t0001", "finished", "0.8000", "0.7500"],
        ["t0000", "finished", "0.9000", "0.7000"],
    ]
    assert "are ranked by their pooled" in text.export_text(clear=False)
    text.print(StudyView(study, text))
    assert "best auroc 0.7500 (t0001)" in text.export_text()


def test_a_study_hands_out_the_benchmark_and_then_as_many_trials_as_planned(study: Study) -> None:
    study.begin()
    finish(study)
    kinds = [trial.kind for trial in study.history.trials.values()]
    assert kinds == ["benchmark"] + ["trial"] * 12
    assert study.ended()
    assert {"finished", "stopped"} <= {trial.status for trial in study.history.searched()}


@pytest.mark.parametrize("cut", range(1, 14, 3))
def test_a_study_that_was_cut_off_ends_as_an_uninterrupted_one(
    study: Study, plan: Plan, tmp_path: Path, cut: int
) -> None:
    whole = Study(StudyFolder(tmp_path / "whole"), plan)
    whole.begin()
    finish(whole)
    study.begin()
    finish(study, cut)
    trial = study.next_trial()
    if trial is not None and trial.kind == "trial":
        study.report(trial.id, report(1, quality(trial) + 0.01))
    again = Study(study.folder, read_plan(study.folder))
    again.begin()
    finish(again)
    assert outcome(again.history) == outcome(whole.history)
    assert again.history.rungs == whole.history.rungs


def test_a_report_that_comes_twice_changes_nothing(study: Study) -> None:
    study.begin()
    finish(study, 1)
    trial = study.next_trial()
    assert trial is not None
    assert study.report(trial.id, report(1, 0.7))
    before = list(study.journal.events)
    assert study.report(trial.id, report(1, 0.9))
    assert study.journal.events == before
    assert trial.objective == 0.7


def test_what_a_killed_launcher_left_undecided_is_decided_at_the_start(study: Study) -> None:
    study.begin()
    finish(study, 2)
    trial = study.next_trial()
    assert trial is not None
    # The launcher was killed after it wrote the report and before it wrote what follows from it.
    event = {"event": "report", "trial": trial.id, **report(1, -1.0), "rung": True}
    study.journal.append(event)
    again = Study(study.folder, study.plan)
    again.begin()
    assert again.history.trials[trial.id].status == "stopped"
    assert again.history.trials[trial.id].reason == "rung 1"


def test_optuna_is_told_pruned_and_fail_and_only_finished_trials_are_complete(
    study: Study,
) -> None:
    study.begin()
    finish(study, 8)
    trial = study.next_trial()
    assert trial is not None
    study.fail(trial.id, "nan-loss")
    states = {"finished": "COMPLETE", "stopped": "PRUNED", "failed": "FAIL"}
    frozen = told(study.plan.space, study.history, by_rung=False)
    assert [one.state.name for one in frozen] == [
        states[one.status] for one in study.history.searched()
    ]
    assert "PRUNED" in {one.state.name for one in frozen}
    assert study.history.trials[trial.id].reason == "nan-loss"


def test_the_majority_class_is_a_trial_of_its_own_kind(study: Study) -> None:
    study.begin()
    record_majority(study)
    record_majority(study)
    found = study.history.trials["majority"]
    assert found.status == "finished"
    assert [one["epoch"] for one in found.reports] == [4, 8]
    assert found.objective == 0.5
    assert study.history.searched() == []
    assert study.history.rungs == {}


def test_checkpoints_of_ended_trials_are_removed(study: Study) -> None:
    study.begin()
    finish(study, 1)
    trial = study.next_trial()
    assert trial is not None
    for name in (trial.id, "t0099"):
        study.folder.write(study.folder.checkpoint(name), b"x")
    again = Study(study.folder, study.plan)
    again.begin()
    assert study.folder.names("checkpoints") == [f"{trial.id}.pt"]
    assert again.next_trial() is again.history.trials[trial.id]
    again.fail(trial.id, "nan-loss")
    assert study.folder.names("checkpoints") == []


def test_a_plan_comes_back_from_its_file_as_it_was(plan: Plan) -> None:
    full = plan.with_numerics({"some cpu": {"cnn": Numerics("bfloat16", "channels_last")}})
    assert load_plan(full.dump()) == full
    assert full.numerics_for("some cpu", "cnn").precision == "bfloat16"
    assert full.numerics_for("another", "cnn") == Numerics()


def test_a_study_that_is_there_is_not_made_again(study: Study, plan: Plan) -> None:
    with pytest.raises(StudyError, match="exists already"):
        create_study(study.folder, plan, {})


def test_a_resume_with_another_space_is_rejected_with_the_differences(
    plan: Plan, shards: Path
) -> None:
    changed = {**TREE, "epochs": 5, "space": {**TREE["space"], "patients": 0.5}}
    now = make_plan(parse_space(changed, "x"), "x", str(shards))[0]
    with pytest.raises(StudyError) as rejected:
        reject_changes(plan, now)
    assert "epochs was 4, is 5" in str(rejected.value)
    assert "space.patients was absent, is fixed 0.5" in str(rejected.value)
    reject_changes(plan, make_plan(parse_space(TREE, "x"), "x", str(shards))[0])


def test_a_study_has_one_launcher(tmp_path: Path) -> None:
    import os

    folder = StudyFolder(tmp_path / "x")
    with (
        launcher_lock(folder),
        pytest.raises(StudyError, match=f"process {os.getpid()} on"),
        launcher_lock(folder),
    ):
        pass
    with launcher_lock(folder):
        pass


@pytest.mark.parametrize(
    "error",
    [
        StudyError("study 'x' was taken over by process 7 on b"),
        StorageError("s3://b/x: cannot be used (Access Denied); look at its login"),
    ],
)
def test_a_study_that_is_anothers_by_now_or_whose_store_is_away_halts(
    study: Study, error: UserError
) -> None:
    def reject() -> None:
        raise error

    study.begin()
    trial = study.next_trial()
    assert trial is not None
    study.journal.assure = reject
    with pytest.raises(UserError) as raised:
        study.report(trial.id, report(1, 0.5))
    assert raised.value is error
    assert study.halted == str(error)
    assert trial.epoch == 0
    assert study.next_trial() is None
    assert not study.report(trial.id, report(1, 0.5))
    assert Journal(study.folder / "journal").events == study.journal.events


def test_a_journals_events_are_the_history(study: Study) -> None:
    study.begin()
    finish(study, 6)
    again = History(Journal(study.folder / "journal").events)
    assert outcome(again) == outcome(study.history)
