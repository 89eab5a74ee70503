"""No slot is idle beside a training trial while others are paused, unless the budget forbids it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raysearch.config.samplers import GridSampler
from raysearch.config.space import Budget, Rule, Space, Stopping
from raysearch.search.journal.events import TrialPromoted
from raysearch.search.journal.history import Trial
from raysearch.search.scheduling.budget import HOUR_S
from support.clocked_studies import ClockedStudy
from support.simulated_studies import SPACE

PAUSING_RULES: tuple[Rule, ...] = ("promotion", "forest")
NUM_SLOTS = 4
# The forest is fitted again and again.
SEEDS = {"promotion": range(4), "forest": range(1)}
SLOWEST_S = 2.0
NO_BUDGET = Budget()


def seconds_of(trial: Trial) -> float:
    """The time of a fold-epoch, which depends on the trial."""
    return 1.0 + (trial.seed % 7) / 7 * (SLOWEST_S - 1.0)


def space_of(rule: Rule, seed: int, budget: Budget = NO_BUDGET) -> Space:
    return replace(SPACE, trials=12, seed=seed, stopping=Stopping(1, 3, rule), budget=budget)


def promotions(study: ClockedStudy) -> list[TrialPromoted]:
    return [event for event in study.events if isinstance(event, TrialPromoted)]


@pytest.mark.parametrize("rule", PAUSING_RULES)
def test_no_slot_idles_beside_a_trial_for_which_the_study_goes_on(rule: Rule) -> None:
    num_filled = 0
    for seed in SEEDS[rule]:
        study = ClockedStudy(space_of(rule, seed), NUM_SLOTS, seconds_of, seed=seed).run()
        assert [idle for idle in study.idle_times if idle.num_needed] == []
        # Trials in idle slots prolong the study by no more than a fold-epoch.
        assert sum(idle.seconds for idle in study.idle_times) <= SLOWEST_S
        assert study.policy.history.done()
        num_filled += sum(event.in_idle_slot for event in promotions(study))
    assert num_filled


def test_one_slot_is_never_idle() -> None:
    for seed in range(4):
        study = ClockedStudy(space_of("promotion", seed), 1, seconds_of, seed=seed).run()
        assert study.policy.history.done()
        assert not any(event.in_idle_slot for event in promotions(study))


@pytest.mark.parametrize(
    ("rule", "fold_epochs"),
    [("promotion", 30), ("promotion", 60), ("promotion", 90), ("forest", 60)],
)
def test_trials_in_idle_slots_leave_the_budget_to_the_others(rule: Rule, fold_epochs: int) -> None:
    for seed in SEEDS[rule]:
        space = space_of(rule, seed, Budget(fold_epochs=fold_epochs))
        study = ClockedStudy(space, NUM_SLOTS, seconds_of, seed=seed).run()
        history = study.policy.history
        assert history.spent.fold_epochs <= fold_epochs
        assert history.done()
        per_trial = history.searched()[0].folds * space.epochs
        for idle in study.idle_times:
            # The budget would not suffice to finish these trials and another one.
            num_training = NUM_SLOTS - idle.num_idle
            assert idle.num_left is not None
            assert not idle.num_needed or idle.num_left < (num_training + 1) * per_trial


def test_the_last_trial_that_the_hours_suffice_for_does_not_train_alone() -> None:
    for seed in range(4):
        space = space_of("promotion", seed, Budget(hours=20 / HOUR_S))
        study = ClockedStudy(space, NUM_SLOTS, seconds_of, seed=seed).run()
        assert [idle for idle in study.idle_times if idle.num_needed] == []
        assert study.now <= 20 + SLOWEST_S


def test_a_slot_idles_if_the_fold_epochs_are_left_to_one_trial() -> None:
    space = space_of("promotion", 0, Budget(fold_epochs=24))
    study = ClockedStudy(space, NUM_SLOTS, seconds_of).run()
    history = study.policy.history
    assert len(history.done()) == 1
    assert study.idle_times
    assert not any(event.in_idle_slot for event in promotions(study))


@pytest.mark.parametrize("rule", PAUSING_RULES)
@pytest.mark.parametrize("slots", [1, NUM_SLOTS])
def test_a_grid_without_further_points_ends_with_a_champion(rule: Rule, slots: int) -> None:
    optimizer, _momentum, _rate, folds = SPACE.hparams
    space = replace(
        space_of(rule, 0), hparams=(optimizer, folds), sampler=GridSampler(), trials=100
    )
    study = ClockedStudy(space, slots, seconds_of, lambda hparams: len(str(hparams))).run()
    assert len(study.policy.history.searched()) == 2
    assert study.policy.history.done()
    assert [idle for idle in study.idle_times if idle.num_needed] == []


def test_a_trial_that_fills_an_idle_slot_is_no_trial_without_improvement() -> None:
    study = ClockedStudy(space_of("promotion", 0), NUM_SLOTS, seconds_of).run()
    history = study.policy.history
    filled = {event.trial for event in promotions(study) if event.in_idle_slot}
    assert filled
    counted = [trial for trial in history.searched() if trial.ended and not trial.in_idle_slot]
    assert history.num_ended == len(counted) < sum(1 for t in history.searched() if t.ended)
