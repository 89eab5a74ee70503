"""A champion judged on a set, assessed, kept in its study's folder and told to MLflow."""

from __future__ import annotations

import json
from dataclasses import dataclass

from raysearch.inference.model_loading import Model, Progress
from raysearch.metrics.evaluation import Assessment, Scored, assess
from raysearch.search.journal.history import History
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan
from raysearch.search.study.study import read_plan
from raysearch.search.tracking.evaluation_results import send_results
from raysearch.search.tracking.tracker import default_store
from raysearch.testing.external_test_set import Outside, judge_outside
from raysearch.testing.held_out_test import open_held_out
from raysearch.testing.test_results import About, keep


@dataclass(frozen=True)
class Outcome:
    """What was judged, how it did, and why MLflow does not have it, where it has not."""

    about: About
    scored: Scored
    assessment: Assessment
    unsent: Exception | None


def judge_held_out(
    folder: StudyFolder, plan: Plan, history: History, model: Model, progress: Progress
) -> Outcome:
    """Open the held-out set of the study in `folder` for `model`, its champion; as `open_held_out`."""
    done = open_held_out(folder, plan, history, model, progress)
    found = assess(done.scored)
    return Outcome(done.about, done.scored, found, _sent(plan, done.about, found))


def judge_elsewhere(
    model: Model, folder: StudyFolder | None, asked: Outside, progress: Progress
) -> Outcome:
    """Judge `model` by the shards that are `asked` for; as `judge_outside`.

    The study in `folder`, whose champion it is, keeps what came of it; without, nobody does.
    """
    done = judge_outside(model, asked, progress)
    found = assess(done.scored)
    if folder is None:
        return Outcome(done.about, done.scored, found, None)
    plan = read_plan(folder)
    keep(folder, done.about, done.patches, done.scored)
    return Outcome(done.about, done.scored, found, _sent(plan, done.about, found))


def _sent(plan: Plan, about: About, found: Assessment) -> Exception | None:
    prefix = "test" if about.opening else about.name
    metrics = {
        f"{prefix}_{name}": one.value
        for name, one in found.metrics.items()
        if one.value is not None
    }
    if about.in_context is not None and about.in_context.value is not None:
        metrics[f"{prefix}_auroc_in_context"] = about.in_context.value
    rows = [
        [name, one.value, one.low, one.high, found.baseline[name]]
        for name, one in found.metrics.items()
    ]
    table = {"columns": ["metric", "value", "low", "high", "guessing"], "data": rows}
    tags = {f"{prefix}_trial": about.trial, f"{prefix}_at": about.at}
    if about.opening:
        tags["test_openings"] = str(about.opening["by_this_study"])
    files = {f"{prefix}.json": json.dumps(table).encode()}
    return send_results(plan, default_store(), metrics, tags, files)
