"""The estimate of the time that a running study still needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.samplers import GridSampler
from raysearch.config.space import Budget, Space
from raysearch.config.space_file import parse_space
from raysearch.search.journal.events import (
    Event,
    FoldReport,
    RefitTrained,
    RepeatTrained,
    StudyLaunched,
    TrialEnded,
    TrialSelected,
    TrialsExtended,
    TrialStarted,
    ValueExcluded,
)
from raysearch.search.journal.history import History
from raysearch.search.sampling.designs import grid
from raysearch.search.scheduling.cost_estimate import simulate_search
from raysearch.search.scheduling.epoch_seconds import EpochSeconds, busy_seconds
from raysearch.search.scheduling.remaining_seconds import RemainingSeconds
from raysearch.search.scheduling.remaining_time import MAX_SIMULATED_TRIALS, RemainingTime
from raysearch.search.scheduling.work_after_search import OVERHEAD_S, REGISTRATION_S
from support.timed_studies import START, TimedStudy

SECONDS = {"cnn": 1.0, "p4m": 20.0, "benchmark": 0.2}
PROBED = {name: EpochSeconds((SECONDS[name],)) for name in ("cnn", "p4m")}
EPOCHS, FOLDS = 3, 2


def space(rule: str = "none", trials: int = 6, **changes: Any) -> Space:
    tree = {
        "objective": {"metric": "auroc", "mode": "max"},
        "epochs": EPOCHS,
        "trials": trials,
        "seed": 0,
        "sampler": "random",
        "stopping": {"rule": rule, "paired_alpha": 0},
        "space": {
            "folds": FOLDS,
            "architecture": {"choice": ["cnn", "p4m"]},
            "learning_rate": {"loguniform": [1e-4, 1e-2]},
        },
    }
    return replace(parse_space(tree, "x"), **changes)


class Followed:
    """A study whose events are followed one by one."""

    def __init__(self, space: Space, probed: dict[str, EpochSeconds], num_slots: int = 1) -> None:
        self.history = History()
        search = simulate_search(space, {}, num_slots)
        self.remaining = RemainingTime(space, search, probed, num_slots, num_slots)
        self.now = START
        self._add(StudyLaunched("here", 1))

    def _add(self, event: Event) -> None:
        event = replace(event, time=self.now)
        self.history.apply(event)
        self.remaining.apply(event)

    def start(self, trial: str, architecture: str, hparams: Hparams | None = None) -> None:
        hparams = hparams or {"architecture": architecture}
        self._add(TrialStarted(trial, "trial", hparams, 0, FOLDS))

    def report(self, trial: str, epoch: int, seconds: float, objective: float = 0.8) -> None:
        self.now += seconds
        metrics = {"auroc": objective}
        fold = (epoch - 1) // EPOCHS
        self._add(FoldReport(trial, fold, epoch, objective, metrics, None, seconds))

    def finish(
        self,
        trial: str,
        architecture: str,
        seconds: float,
        objective: float = 0.8,
        hparams: Hparams | None = None,
    ) -> None:
        self.start(trial, architecture, hparams)
        for epoch in range(1, EPOCHS * FOLDS + 1):
            self.report(trial, epoch, seconds, objective)
        self._add(TrialEnded(trial, "finished", "all folds done"))

    def add(self, event: Event, seconds: float) -> None:
        self.now += seconds
        self._add(event)

    def estimate(self) -> RemainingSeconds:
        estimate = self.remaining.estimate(self.history, self.now)
        assert estimate is not None
        return estimate


@pytest.mark.parametrize(("rule", "trials"), [("none", 12), ("none", 401), ("promotion", 60)])
def test_a_replayed_study_is_estimated_within_a_factor_at_each_quarter(
    rule: str, trials: int
) -> None:
    of_study = space(rule, trials)
    study = TimedStudy(of_study, SECONDS, num_slots=2)
    events = study.run()
    search = simulate_search(of_study, SECONDS, 2)
    remaining, history = RemainingTime(of_study, search, PROBED, 2, 2), History()
    pending = list(events)
    for part in (0.0, 0.25, 0.5, 0.75):
        now = START + part * (study.end - START)
        while pending and pending[0].time <= now:
            history.apply(pending[0])
            remaining.apply(pending.pop(0))
        estimate = remaining.estimate(history, now)
        assert estimate is not None
        assert 1 / 1.6 < estimate.total / (study.end - now) < 1.6, part


@pytest.mark.parametrize("trials", [1, MAX_SIMULATED_TRIALS + 1])
def test_the_search_needs_at_least_what_the_running_trials_need(trials: int) -> None:
    followed = Followed(space("none", trials), PROBED)
    followed.start("t0000", "p4m")
    followed.report("t0000", 1, 30.0)
    needed_s = 30 * (EPOCHS * FOLDS - 1)
    assert followed.estimate().search >= needed_s
    if trials == 1:
        assert followed.estimate().search == pytest.approx(needed_s + 5 * OVERHEAD_S, rel=0.05)


def test_the_estimate_falls_while_an_epoch_is_trained_but_not_to_its_end() -> None:
    followed = Followed(space("none", 1), PROBED)
    followed.start("t0000", "p4m")
    followed.report("t0000", 1, 20.0)
    before_s = followed.estimate().search
    followed.now += 10
    assert followed.estimate().search == pytest.approx(before_s - 10, abs=1)
    followed.now += 1000
    assert followed.estimate().search > 20 * (EPOCHS * FOLDS - 2)


def after_search_seconds(start_s: float) -> float:
    """The seconds after a search, after the first worker process has started in `start_s`."""
    followed = Followed(space("none", 1), PROBED)
    followed.add(TrialStarted("majority", "majority", {}, 0, FOLDS), 0.0)
    followed.add(FoldReport("majority", 0, 1, 0.5, {"auroc": 0.5}, None, 0.0), 0.0)
    followed.add(TrialEnded("majority", "finished", "all folds done"), 0.0)
    baseline = {"architecture": "benchmark"}
    followed.add(TrialStarted("benchmark", "benchmark", baseline, 0, FOLDS), 0.0)
    followed.add(FoldReport("benchmark", 0, 1, 0.7, {"auroc": 0.7}, None, 1.0), start_s + 1.0)
    return followed.estimate().after_search


def test_the_start_of_the_first_worker_process_says_how_long_the_later_ones_take() -> None:
    assert after_search_seconds(24.0) > after_search_seconds(12.0) + 20  # a refit, then repeats


def test_what_remains_after_the_selection_is_that_of_the_selected_trial() -> None:
    followed = Followed(space("none", 2), PROBED)
    followed.finish("t0000", "cnn", 1.0, 0.9)
    followed.finish("t0001", "p4m", 20.0, 0.8)
    of_best_s = followed.estimate().after_search
    followed.add(TrialSelected("t0001"), 1.0)
    of_selected_s = followed.estimate().after_search
    refit_and_repeats_s = 20.0 * EPOCHS * 4
    assert of_selected_s > of_best_s + refit_and_repeats_s / 2
    assert followed.estimate().search == 0
    assert followed.estimate().limits is None


def test_an_extended_study_that_selects_another_trial_has_its_refit_and_repeats_ahead() -> None:
    followed = Followed(space("none", 1), PROBED)
    followed.finish("t0000", "cnn", 1.0, 0.8)
    followed.add(TrialSelected("t0000"), 1.0)
    followed.add(RefitTrained("t0000", "0"), 5.0)
    for fold in range(FOLDS):
        followed.add(RepeatTrained("t0000", 1, fold, "0"), 3.0)
    end_s = followed.estimate().after_search
    followed.add(TrialsExtended(2), 1.0)
    followed.start("t0001", "p4m")
    assert followed.estimate().search > 0  # the search goes on
    for epoch in range(1, EPOCHS * FOLDS + 1):
        followed.report("t0001", epoch, 20.0, 0.9)
    followed.add(TrialEnded("t0001", "finished", "all folds done"), 0.0)
    followed.add(TrialSelected("t0001"), 1.0)
    assert followed.estimate().search == 0
    assert followed.estimate().after_search > end_s + 20.0 * EPOCHS * FOLDS


def test_a_search_that_goes_on_after_a_selection_is_not_over() -> None:
    followed = Followed(space("none", 3), PROBED)
    followed.finish("t0000", "cnn", 1.0, 0.8)
    followed.start("t0001", "p4m")
    followed.add(TrialSelected("t0000"), 1.0)
    assert followed.estimate().search > 20.0 * EPOCHS
    followed.report("t0001", 1, 20.0, 0.9)
    assert followed.history.selected is None
    assert followed.estimate().search > 20.0 * EPOCHS


def test_the_limits_of_a_simulated_rest_are_apart_and_end_with_the_budget() -> None:
    followed = Followed(space("forest", 20), PROBED)
    followed.finish("t0000", "cnn", 1.0, 0.8)
    estimate = followed.estimate()
    assert estimate.limits is not None
    low, high = estimate.limits
    assert low * 1.5 <= estimate.total <= high / 1.5
    limited = Followed(space("forest", 20, budget=Budget(hours=0.01)), PROBED)
    limited.finish("t0000", "cnn", 1.0, 0.8)
    with_budget = limited.estimate()
    assert with_budget.limits is not None
    after_p4m_s = 20.0 * EPOCHS * (FOLDS + 2)  # the repeats, and a refit on all rows
    assert with_budget.limits[1] < 36 + 1.5 * (after_p4m_s + 60)
    assert with_budget.limits[1] < high


def test_without_a_probe_there_is_no_estimate_until_most_architectures_are_measured() -> None:
    followed = Followed(space(), {})
    followed.start("t0000", "cnn")
    followed.report("t0000", 1, 1.0)
    assert followed.remaining.estimate(followed.history, followed.now) is None
    followed.start("t0001", "p4m")
    followed.report("t0001", 1, 20.0)
    assert followed.estimate().search > 20 * (EPOCHS * FOLDS - 1)


def test_an_excluded_architecture_needs_no_measurement() -> None:
    followed = Followed(space(), {})
    followed.start("t0000", "cnn")
    followed.report("t0000", 1, 1.0)
    followed.add(ValueExcluded("architecture", "p4m"), 0.0)
    assert followed.estimate().search < 6 * EPOCHS * FOLDS * 2


@pytest.mark.parametrize("trials", [12, MAX_SIMULATED_TRIALS + 1])
def test_no_excluded_architecture_is_still_to_come(trials: int) -> None:
    followed = Followed(space("none", trials), PROBED)
    followed.finish("t0000", "cnn", 1.0)
    followed.add(ValueExcluded("architecture", "p4m"), 0.0)
    expected_s = (trials - 1) * EPOCHS * FOLDS * (1 + OVERHEAD_S)
    assert followed.estimate().search == pytest.approx(expected_s, rel=0.3)


@pytest.mark.parametrize("trials", [100, MAX_SIMULATED_TRIALS + 1])
def test_a_grid_ends_before_the_planned_trials(trials: int) -> None:
    of_grid = space("none", trials, sampler=GridSampler(steps=2))
    followed = Followed(of_grid, {"cnn": EpochSeconds((1.0,)), "p4m": EpochSeconds((1.0,))})
    assert followed.estimate().search == pytest.approx(4 * EPOCHS * FOLDS, rel=0.5)
    for number, point in enumerate(grid(of_grid, 2)):
        assert followed.estimate().search > 0
        followed.finish(f"t000{number}", str(point["architecture"]), 1.0, hparams=point)
    assert followed.estimate().search == 0


def test_an_architecture_that_no_trial_has_yet_counts_by_its_probe_and_the_measured_ratio() -> None:
    estimates = []
    for factor in (1.0, 3.0):
        followed = Followed(space("none", 6), PROBED)
        followed.finish("t0000", "cnn", factor)
        estimates.append(followed.estimate().search)
    assert estimates[1] == pytest.approx(3 * estimates[0], rel=0.1)


def test_measured_seconds_replace_those_of_the_probe() -> None:
    followed = Followed(space("none", 4), {"cnn": EpochSeconds((1.0,)), "p4m": PROBED["p4m"]})
    before_s = followed.estimate().search
    for number in range(3):
        followed.finish(f"t000{number}", ("cnn", "p4m", "p4m")[number], (1.0, 2.0, 2.0)[number])
    # A fold-epoch of p4m took a tenth of what the probe said.
    assert followed.estimate().search < before_s / 10


def test_more_slots_need_less_time() -> None:
    seconds = {}
    for num_slots in (1, 2, 4):
        seconds[num_slots] = Followed(space("none", 24), PROBED, num_slots).estimate().search
    assert seconds[2] < 0.65 * seconds[1]
    assert seconds[4] < 0.65 * seconds[2]


def test_a_limit_of_hours_limits_the_search() -> None:
    followed = Followed(space("none", 24, budget=Budget(hours=0.01)), PROBED)
    assert followed.estimate().search <= 36
    assert followed.estimate().after_search > REGISTRATION_S


def test_refit_repeats_and_registration_follow_the_search() -> None:
    followed = Followed(space("none", 2, repeats=2), PROBED)
    followed.finish("t0000", "cnn", 1.0, 0.6)
    followed.finish("t0001", "p4m", 30.0, 0.9)
    refit_s = 30 * EPOCHS * FOLDS / (FOLDS - 1)
    fold_s = 30 * EPOCHS
    # The first fold-epochs show that a worker starts in no time, so the constants do not count.
    expected_s = refit_s + 4 * fold_s
    assert followed.estimate().search == 0
    assert followed.estimate().total == pytest.approx(expected_s, rel=0.02)
    followed.add(RefitTrained("t0001", "0"), refit_s)
    assert followed.estimate().total == pytest.approx(expected_s - refit_s, rel=0.02)
    for number in range(4):
        repeat = RepeatTrained("t0001", number // 2, number % 2, "0")
        followed.add(repeat, fold_s)
        assert followed.estimate().total == pytest.approx((3 - number) * fold_s, abs=2)


def test_slots_are_filled_in_the_order_in_which_they_are_free() -> None:
    assert busy_seconds([0.0, 0.0], 10.0) == 5
    assert busy_seconds([4.0, 0.0], 2.0) == 4
    assert busy_seconds([4.0, 0.0], 8.0) == 6
    assert busy_seconds([9.0, 1.0, 0.0], 3.0) == 9


def test_an_extended_study_searches_again_and_may_refit_another_champion() -> None:
    followed = Followed(space("none", 2), PROBED)
    for number in range(2):
        followed.finish(f"t{number:04d}", "cnn", 1.0)
    followed.add(RefitTrained("t0000", "0"), 3.0)
    ended = followed.estimate()
    assert ended.search == 0
    followed.add(TrialsExtended(4), 60.0)
    extended = followed.estimate()
    assert extended.search > 2 * EPOCHS
    assert extended.after_search > ended.after_search
