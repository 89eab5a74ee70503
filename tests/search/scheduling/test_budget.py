"""A budget ends a study, which nevertheless has a champion."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raysearch.config.space import Budget, Rule, Stopping
from raysearch.search.journal.events import (
    Event,
    FoldReport,
    TrialEnded,
    TrialPaused,
    TrialStarted,
)
from raysearch.search.journal.history import Trial
from raysearch.search.scheduling.budget import missing_reports
from raysearch.search.scheduling.policy import SearchPolicy
from support.simulated_studies import RULES, SPACE, finished_policy


@pytest.mark.parametrize("rule", [*RULES, "forest"])
def test_a_budget_is_not_overspent_and_the_study_has_a_champion(rule: Rule) -> None:
    for max_fold_epochs in (40, 75):
        budget = Budget(fold_epochs=max_fold_epochs)
        space = replace(SPACE, stopping=Stopping(1, 3, rule), budget=budget, trials=100)
        history = finished_policy(space, 4).history
        assert history.spent.fold_epochs <= max_fold_epochs
        assert history.done(), (rule, max_fold_epochs)
        assert not (*history.running(), *history.paused())


@pytest.mark.parametrize(
    ("rule", "seed", "max_fold_epochs"),
    [("forest", 0, 50), ("forest", 2, 50), ("forest", 15, 50), ("promotion", 16, 70)],
)
def test_two_trials_that_overtake_each_other_do_not_both_spend_the_budget(
    rule: Rule, seed: int, max_fold_epochs: int
) -> None:
    budget = Budget(fold_epochs=max_fold_epochs)
    space = replace(SPACE, stopping=Stopping(3, 3, rule), budget=budget, trials=100, seed=seed)
    assert finished_policy(space, seed).history.done()


@pytest.mark.parametrize("rule", [*RULES, "forest"])
@pytest.mark.parametrize("budget", [Budget(), Budget(fold_epochs=40)])
def test_patience_does_not_end_the_last_trial_that_can_finish(rule: Rule, budget: Budget) -> None:
    num_impatient = 0
    for seed in range(8):
        stopping = Stopping(1, 3, rule, patience=1)
        space = replace(SPACE, stopping=stopping, budget=budget, trials=4, seed=seed)
        history = finished_policy(space, seed).history
        assert history.done(), (rule, seed)
        reasons = [trial.reason for trial in history.searched()]
        num_impatient += reasons.count("no improvement in 1 epochs")
    assert num_impatient


def test_a_frozen_network_needs_one_report_a_fold() -> None:
    trial = Trial("t0000", "trial", {"adaptation": "frozen"}, seed=0, folds=3)
    assert missing_reports(SPACE, trial) == 3
    assert missing_reports(SPACE, replace(trial, hparams={})) == 3 * SPACE.epochs


def test_a_target_and_no_improvement_end_a_study() -> None:
    policy = finished_policy(replace(SPACE, budget=Budget(target=0.5), trials=100), 4)
    assert len(policy.history.done()) == 1
    assert policy.exhausted() == "target 0.5 reached"
    policy = finished_policy(replace(SPACE, budget=Budget(no_improvement=6), trials=200), 4)
    assert policy.exhausted() == "no improvement in 6 trials"
    assert len(policy.history.searched()) < 200


def test_the_end_of_a_paused_trial_is_no_trial_without_improvement() -> None:
    events: list[Event] = []
    for number in range(6):
        name = f"t000{number}"
        events.append(TrialStarted(name, "trial", {}, 0, 3))
        events.append(FoldReport(name, 0, 1, 0.5, {}, None, 1.0, rung=True))
        if number:
            events.append(TrialPaused(name))
    events += [
        TrialEnded(f"t000{number}", "finished" if not number else "stopped", "")
        for number in range(5)
    ]
    space = replace(SPACE, budget=Budget(no_improvement=1), stopping=Stopping(1, 3, "promotion"))
    policy = SearchPolicy(space, events)
    assert policy.exhausted() is None
    policy.apply(TrialStarted("t0006", "trial", {}, 0, 3))
    policy.apply(TrialEnded("t0006", "failed", ""))
    assert policy.exhausted() == "no improvement in 1 trials"
