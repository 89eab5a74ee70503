"""The epochs of a trial's folds, and how often it reports: after each epoch, or each fold."""

from __future__ import annotations

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.names import FROZEN
from raysearch.config.space import Space


def trial_epochs(space: Space, hparams: Hparams) -> int:
    """Return the epochs of a fold of a trial.

    They are its hyperparameter `epochs`; without it, those of the space. The baseline `benchmark`
    has none, and so the largest number of the space.
    """
    return int(hparams.get("epochs", space.epochs))


def report_interval(hparams: Hparams, epochs: int) -> int:
    """Return the fold-epochs from one report of a trial to the next.

    A classifier of frozen features is trained in a small part of the time that an epoch of a
    network takes. Such a trial is validated and compared at the ends of its folds only.

    Args:
        hparams: The hyperparameters of the trial.
        epochs: The epochs of a fold.
    """
    return epochs if hparams.get("adaptation") == FROZEN else 1


def min_reports(space: Space) -> int:
    """Return the fewest reports of a trial of `space` that finishes."""
    folds = min(map(int, space.values_of("folds")))
    is_frozen = FROZEN in space.values_of("adaptation")
    return folds if is_frozen else folds * min(space.epoch_values)


def max_reports(space: Space) -> int:
    """Return the most reports of a trial of `space` that finishes."""
    folds = max(map(int, space.values_of("folds")))
    is_frozen = set(space.values_of("adaptation")) == {FROZEN}
    return folds if is_frozen else folds * max(space.epoch_values)
