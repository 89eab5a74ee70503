"""Studies with a champion that was really trained, in this very process and without Ray."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from raysearch.champion.trained_networks import champion_scores
from raysearch.config.space import ChampionKind
from raysearch.config.space_file import parse_space
from raysearch.data.files import Folder
from raysearch.data.splits.split_manifest import add_split_manifest
from raysearch.search.engine import reporter
from raysearch.search.engine import worker_tasks as worker
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import make_plan, split_manifest_of
from raysearch.search.study.study import Study, create_study
from raysearch.selection.decision_rule import Options, decide
from support.result_studies import next_searched

SEED = 11  # a fresh one
HPARAMS: dict[str, Any] = {
    "architecture": "cnn",
    "width": 4,
    "convolutions": 1,
    "learning_rate": 0.005,
    "batch_size": 32,
}


def crowned_study(
    shards: Path, place: Path, hparams: dict[str, Any] | None = None, kind: ChampionKind = "refit"
) -> Study:
    """A study of one trial over two folds of `shards`, judged, trained again and crowned."""
    tree = {"epochs": 2, "trials": 1, "seed": 1, "stopping": {"rule": "none"}}
    space = parse_space({**tree, "space": {"folds": 2, **(hparams or HPARAMS)}}, "x")
    split_manifest, new = split_manifest_of(space, str(shards))
    plan, splits = make_plan(space, place.name, str(shards), split_manifest)
    if new:
        add_split_manifest(split_manifest, Folder(plan.data), space.task)
    study = create_study(StudyFolder(place), plan, splits)
    study.begin()
    trial = next_searched(study)
    job = worker.Job(
        study.folder.address, plan.data, trial.id, dict(trial.hparams), trial.seed, 2, 0, 1.0
    )
    with pytest.MonkeyPatch.context() as patch:
        sent: list[dict[str, Any]] = []
        patch.setattr(worker, "get_device", worker.get_local_device)
        patch.setattr(reporter, "this_node", lambda: "here")
        patch.setattr(reporter, "draining_nodes", set)
        patch.setattr("ray.tune.report", sent.append)
        worker.train_job(job)
    for one in sent:
        study.report(trial.id, json.loads(one["report"]))
    if kind == "ensemble":
        for fold in (0, 1):
            worker.fold_job(dataclasses.replace(job, seed=SEED), fold, keep_net=True)
    else:
        worker.refit_job(job)
    crown_again(study, Options(kind=kind))
    return study


def crown_again(study: Study, options: Options) -> None:
    """Lock its only trial by `options`."""
    (trial,) = study.history.done()
    made_of = {"margin": options.margin, "kind": options.kind, "repeats": options.repeats}
    if options.kind == "ensemble":
        made_of["seed"] = SEED
    rows = champion_scores(study.folder, study.plan, trial, made_of)
    study.crown(trial, {**made_of, **decide(rows, options.criterion).told})


def of_another_trial(study: Study, name: str) -> Study:
    """The same study, whose journal says that `name` is the champion."""
    trial = dataclasses.replace(study.history.done()[0], id=name)
    study.crown(trial, study.history.locked)
    return study
