"""An earlier study as a source of a new search: its configurations and their learning curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.report_interval import report_interval, trial_epochs
from raysearch.config.space import Space
from raysearch.search.journal.history import History, Trial, total_fold_epochs
from raysearch.search.journal.rungs import Mode

# So many points of a learning curve are kept, evenly spaced, the last among them.
MAX_CURVE_POINTS = 8
# So many trials of a study are kept: those that trained longest, and of these the newest.
MAX_TRIALS = 500
# Forests compute with 32-bit numbers.
MAX_NUMBER = 1e30


@dataclass(frozen=True)
class SourceTrial:
    """A trial of an earlier study.

    Attributes:
        hparams: Its hyperparameters.
        curve: (fraction of its fold-epochs, objective) of its reports, in order; not empty.
        epoch_seconds: The mean seconds of a fold-epoch.
    """

    hparams: Hparams
    curve: tuple[tuple[float, float], ...]
    epoch_seconds: float


@dataclass(frozen=True)
class SourceStudy:
    """An earlier study.

    Attributes:
        name: Its name.
        metric: Its objective.
        mode: Whether its objective is maximized or minimized.
        trials: Its trials that reported an objective.
    """

    name: str
    metric: str
    mode: Mode
    trials: tuple[SourceTrial, ...]


def source_study(name: str, space: Space, history: History) -> SourceStudy:
    """Return the trials of a study with the search space `space` as a source."""
    trials = [source_trial(space, trial) for trial in history.searched()]
    reported = [trial for trial in trials if trial.curve and has_usable_numbers(trial)]
    longest = sorted(reported, key=lambda trial: trial.curve[-1][0])[-MAX_TRIALS:]
    return SourceStudy(name, space.metric, space.mode, tuple(longest))


def source_trial(space: Space, trial: Trial, max_points: int = MAX_CURVE_POINTS) -> SourceTrial:
    """Return a trial of a study with the search space `space`; its curve may be empty."""
    num_fold_epochs, epochs = total_fold_epochs(space, trial), trial_epochs(space, trial.hparams)
    curve = [
        (report.epoch / num_fold_epochs, report.objective)
        for report in trial.reports
        if report.objective is not None
    ]
    interval = report_interval(trial.hparams, epochs)
    seconds = [report.seconds / interval for report in trial.reports]
    # In this space, the epochs may be no hyperparameter.
    hparams = {"epochs": epochs, **trial.hparams}
    return SourceTrial(
        hparams, thinned(curve, max_points), float(np.mean(seconds)) if seconds else 0.0
    )


def has_usable_numbers(trial: SourceTrial) -> bool:
    """Return whether the numbers of a trial, whose journal may be forged, fit into a model."""
    numbers = [value for value in trial.hparams.values() if isinstance(value, (int, float))]
    numbers += [objective for _fraction, objective in trial.curve]
    is_finite = all(abs(number) <= MAX_NUMBER for number in numbers)
    return is_finite and all(0 < fraction <= 1 for fraction, _objective in trial.curve)


def thinned(
    curve: list[tuple[float, float]], num_points: int = MAX_CURVE_POINTS
) -> tuple[tuple[float, float], ...]:
    """Return at most `num_points` of a curve, evenly spaced, the last among them."""
    count = len(curve)
    indices = {count - 1 - count * part // num_points for part in range(num_points)}
    return tuple(curve[index] for index in sorted(indices) if count)
