"""Studies with a champion that is trained in this process, without Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from raysearch.champion.register import freeze_decision
from raysearch.champion.stored_champion import champion_scores
from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.space import ChampionKind
from raysearch.config.space_file import parse_space
from raysearch.data.files import Folder
from raysearch.data.splits.split_manifest import add_split_manifest
from raysearch.search.engine import champion_tasks, reporter, worker_tasks
from raysearch.search.engine.worker_messages import WorkerMessage, trial_task
from raysearch.search.journal.events import ChampionDecision, FoldReport
from raysearch.search.journal.history import Trial
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.architecture_checks import check_architectures, encoders_of
from raysearch.search.study.plan_creation import (
    are_known_to_be_accepted,
    make_plan,
    split_manifest_of,
)
from raysearch.search.study.study import Study, create_study
from raysearch.selection.decision_rule import SelectionOptions, fit_decision_rule
from support.result_studies import new_study, next_searched

REPEAT_SEED = 11
HPARAMS: Hparams = {
    "architecture": "cnn",
    "width": 4,
    "convolutions": 1,
    "learning_rate": 0.005,
    "batch_size": 32,
}
SLIDE_HPARAMS: Hparams = {
    "architecture": "abmil",
    "embedding_units": 8,
    "attention_units": 4,
    "bag_size": 16,
    "batch_size": 8,
    "learning_rate": 0.01,
}
REPEATED_HPARAMS: Hparams = {
    "folds": 2,
    "width": 4,
    "batch_size": 16,
    "preprocess": "reinhard",
    "tta": "dihedral",
    "learning_rate": 0.01,
}
REFIT_DECISION = ChampionDecision(
    margin=0.005,
    kind="refit",
    repeats=1,
    temperature=1.0,
    threshold=None,
    criterion="balanced_accuracy",
    error_before=None,
    error=None,
)
ENSEMBLE_DECISION = replace(REFIT_DECISION, kind="ensemble", seed=REPEAT_SEED)


def study_with_champion(
    shards: Path, folder: Path, hparams: Hparams = HPARAMS, kind: ChampionKind = "refit"
) -> Study:
    """Create a study of one trial over two folds of `shards`, and train and select its champion."""
    tree = {"epochs": 2, "trials": 1, "seed": 1, "stopping": {"rule": "none"}}
    space = parse_space({**tree, "space": {"folds": 2, **hparams}}, "x")
    split_manifest, is_new = split_manifest_of(space, str(shards))
    plan, splits = make_plan(space, folder.name, str(shards), split_manifest)
    if not are_known_to_be_accepted(space, plan.shape):
        files = check_architectures(space, plan.shape)
        plan = replace(plan, weights=files, encoders=encoders_of(space))
    if is_new:
        add_split_manifest(split_manifest, Folder(plan.data), space.task)
    study = create_study(StudyFolder(folder), plan, splits)
    study.begin()
    trial = next_searched(study)
    train_in_this_process(study, trial)
    if kind == "ensemble":
        train_repeat(study, trial)
    else:
        study.record_refit(trial, champion_tasks.refit_trial(trial_task(study, trial)).network)
    select_champion(study, SelectionOptions(kind=kind))
    return study


def study_with_started_trial(shards: Path, folder: Path) -> Study:
    """Create a study with the trial `t0000`, which has two folds and is not trained."""
    study = new_study(shards, folder, {"epochs": 1, "trials": 2, "space": REPEATED_HPARAMS})
    study.start("t0000", "trial", REPEATED_HPARAMS)
    return study


def train_in_this_process(study: Study, trial: Trial) -> None:
    """Train `trial` as its worker does, and report its fold-epochs to the study."""
    messages: list[WorkerMessage] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_tasks, "get_device", worker_tasks.get_local_device)
        patch.setattr(reporter, "current_node_id", lambda: "node")
        patch.setattr(reporter, "draining_node_ids", set)
        for module in (reporter, worker_tasks):
            patch.setattr(module, "send_message", messages.append)
        worker_tasks.train_trial(trial_task(study, trial))
    for message in messages:
        assert isinstance(message, FoldReport), message
        study.report(message)


def train_repeat(study: Study, trial: Trial, seed: int = REPEAT_SEED, *folds: int) -> None:
    """Train folds of `trial` with a repeat seed as their workers do; all folds by default."""
    task = replace(trial_task(study, trial), seed=seed)
    for fold in folds or range(trial.folds):
        study.record_repeat(trial, champion_tasks.train_repeat_fold(task, fold, keep_network=True))


def select_champion(study: Study, options: SelectionOptions) -> None:
    """Record the only finished trial as the champion, with a decision rule by `options`."""
    (trial,) = study.history.done()
    repeat_seed = REPEAT_SEED if options.kind == "ensemble" else None
    scores = champion_scores(study.folder, study.plan, trial, repeat_seed)
    rule = fit_decision_rule(scores, options.criterion)
    study.record_champion(trial, freeze_decision(options, rule, repeat_seed))
