"""A trial trained over its folds again, with other seeds: its objective without that luck."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from raysearch.champion.trained_networks import repeat_scores
from raysearch.metrics.bootstrap import Interval, percentiles
from raysearch.search.engine.repeat_runs import train_repeats
from raysearch.search.journal.history import Trial
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import Plan
from raysearch.search.study.repeats import repeats
from raysearch.search.study.study import Study
from raysearch.selection.decision_rule import Options
from raysearch.selection.paired_bootstrap import Draws

Say = Callable[[str], None]


@dataclass(frozen=True)
class Fresh:
    """A trial with a fresh `seed`: its objective, pooled out of fold, and the interval by patient.

    None where the training failed, for the reason `failure`.
    """

    seed: int
    objective: Interval | None
    failure: str = ""


def repeat(study: Study, trial: Trial, options: Options, draws: int, say: Say) -> tuple[Fresh, ...]:
    """`trial` with each fresh seed that `options` ask for, trained where that was not done yet.

    Of an ensemble the nets are kept. The intervals are over as many `draws` of patients, the same
    ones that the selection has. `say` hears how far the training is.
    """
    seeds = repeats(study.plan.space.seed, trial, options.repeats)

    def progress(done: int, every: int) -> None:
        say(f"training {trial.id} again with a fresh seed, {done} of {every} folds done")

    train_repeats(study, trial, seeds, progress, nets=options.kind == "ensemble")
    failed = {seed: study.history.repeat_failures.get((trial.id, seed), "") for seed in seeds}
    return tuple(
        Fresh(seed, None, failure)
        if failure
        else Fresh(seed, _objective(study.folder, study.plan, trial, seed, draws))
        for seed, failure in failed.items()
    )


def _objective(folder: StudyFolder, plan: Plan, trial: Trial, seed: int, draws: int) -> Interval:
    rows = repeat_scores(folder, plan, trial, seed)
    every = Draws.of_patients(rows.patients, draws, plan.space.seed)
    found = every.metric(plan.space.metric, rows)
    return percentiles(float(found[0]), found[1:])
