"""The simulated rest of a search decides by the exclusions, the grid and the idle slots so far."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raysearch.config.samplers import GridSampler
from raysearch.config.space import Hyperparameter, Space, Stopping
from raysearch.search.journal.events import (
    Event,
    FoldReport,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
    ValueExcluded,
)
from raysearch.search.journal.history import History, Trial
from raysearch.search.scheduling.remaining_search import RemainingSearch, SimulatedRest
from support.simulated_studies import SPACE

SECONDS = {"cnn": 1.0, "p4m": 20.0}
NO_RULE = replace(
    SPACE,
    hparams=(Hyperparameter("architecture", "choice", ("cnn", "p4m")), SPACE.hparams[-1]),
    stopping=Stopping(1, 3, "none"),
    trials=6,
)


def started(name: str) -> TrialStarted:
    return TrialStarted(name, "trial", {"architecture": "cnn", "folds": 3}, 0, 3)


def reports(name: str, first: int, last: int, space: Space) -> list[Event]:
    epochs = space.epochs
    return [
        FoldReport(name, (epoch - 1) // epochs, epoch, 0.8, {}, None, 1.0, rung=epoch == 1)
        for epoch in range(first, last + 1)
    ]


def simulated_rest(space: Space, events: list[Event], running: dict[str, float]) -> SimulatedRest:
    def seconds_of(trial: Trial) -> float:
        return SECONDS[str(trial.hparams["architecture"])]

    rest = RemainingSearch(space, History(events))
    return rest.simulate(0, 2, seconds_of, SECONDS, running)


def test_no_simulated_trial_has_an_excluded_value() -> None:
    events: list[Event] = [started("t0000"), ValueExcluded("architecture", "p4m")]
    rest = simulated_rest(NO_RULE, events, {"t0000": 1.0})
    assert rest.fold_epochs == 6 * 3 * NO_RULE.epochs
    assert rest.seconds == rest.fold_epochs / 2


@pytest.mark.parametrize(("is_excluded", "num_trials"), [(False, 2), (True, 1)])
def test_the_simulated_search_ends_with_the_grid(is_excluded: bool, num_trials: int) -> None:
    space = replace(NO_RULE, trials=100, sampler=GridSampler())
    events: list[Event] = [started("t0000")]
    events += [ValueExcluded("architecture", "p4m")] * is_excluded
    rest = simulated_rest(space, events, {"t0000": 1.0})
    assert rest.fold_epochs == num_trials * 3 * space.epochs


def test_a_trial_in_an_idle_slot_ends_once_no_other_trains() -> None:
    space = replace(NO_RULE, stopping=Stopping(1, 3, "promotion"), trials=2)
    num_fold_epochs = 3 * space.epochs
    events: list[Event] = [
        *(started("t0000"), *reports("t0000", 1, 1, space), TrialPaused("t0000")),
        *(started("t0001"), TrialPromoted("t0000", in_idle_slot=True)),
        *reports("t0001", 1, num_fold_epochs, space),
        TrialEnded("t0001", "finished", ""),
    ]
    assert simulated_rest(space, events, {"t0000": 0.5}).seconds == 0.5
