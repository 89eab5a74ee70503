"""What the champion is made of: a net of all patients, or the nets of a fresh seed's folds."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from raysearch.champion.repeated_cv import Fresh, Say, repeat
from raysearch.champion.trained_networks import refitted
from raysearch.errors import StudyError
from raysearch.search.engine.session import refit
from raysearch.search.journal.history import Trial
from raysearch.search.study.study import Study
from raysearch.selection.decision_rule import Options
from raysearch.selection.selection import Selection
from raysearch.training.failures import TrainingFailedError

log = logging.getLogger(__name__)


def made(
    study: Study, selection: Selection, options: Options, say: Say
) -> tuple[Trial, tuple[Fresh, ...]]:
    """The first of the selection's order that can be made what `options` ask for, made.

    With what it has with the fresh seeds of an ensemble's nets; a refit needs none. `say` hears
    what is trained.
    """
    if options.kind == "ensemble":
        return _ensemble_first(study, selection, options, say)
    chosen = _refitted_already(study, selection.chosen)
    return chosen or _refit_first(study, selection.order, say), ()


def _ensemble_first(
    study: Study, selection: Selection, options: Options, say: Say
) -> tuple[Trial, tuple[Fresh, ...]]:
    """The first in the selection's order that does not fail with all its fresh seeds."""
    for trial in selection.order:
        fresh = repeat(study, trial, options, selection.draws, say)
        if any(one.objective for one in fresh):
            return trial, fresh
        log.warning("%s could not be trained again", trial.id)
    raise StudyError(
        f"study {study.plan.name!r} has no champion: none of its {len(selection.order)} finished"
        " trials could be trained again with a fresh seed; raise `trials`, or lower the learning"
        " rates"
    )


def _refitted_already(study: Study, chosen: Trial) -> Trial | None:
    """The `chosen` trial, where the weights of its refit are whole."""
    try:
        refitted(study.folder, chosen)
    except (OSError, ValueError):
        return None
    return chosen


def _refit_first(study: Study, order: Sequence[Trial], say: Say) -> Trial:
    """The first in `order` whose refit does not fail, refitted."""
    for trial in order:
        say(f"refitting {trial.id} on all patients")
        try:
            refit(study, trial)
        except TrainingFailedError as failure:
            log.warning("%s could not be refitted: %s", trial.id, failure)
            continue
        return trial
    raise StudyError(
        f"study {study.plan.name!r} has no champion: none of its {len(order)} finished trials could"
        " be refitted; raise `trials`, or lower the learning rates"
    )
