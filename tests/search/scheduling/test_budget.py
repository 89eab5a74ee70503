"""A budget ends a study, which nevertheless has a champion."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raysearch.config.space import Budget, Hyperparameter, Rule, Stopping
from raysearch.search.journal.events import (
    Event,
    FoldReport,
    TrialEnded,
    TrialPaused,
    TrialStarted,
)
from raysearch.search.journal.history import Trial
from raysearch.search.scheduling.budget import last_affordable_trial, missing_reports
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


LENGTHS = replace(
    SPACE, hparams=(*SPACE.hparams, Hyperparameter("epochs", "choice", (2, 10))), epochs=10
)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("max_fold_epochs", [6, 24, 33])
@pytest.mark.parametrize("trials", [6, 100])
def test_a_budget_of_short_trials_is_not_spent_on_long_ones(
    rule: Rule, max_fold_epochs: int, trials: int
) -> None:
    budget = Budget(fold_epochs=max_fold_epochs)
    for seed in range(6):
        stopping = Stopping(1, 3, rule)
        space = replace(LENGTHS, stopping=stopping, budget=budget, trials=trials, seed=seed)
        history = finished_policy(space, seed).history
        assert history.done(), seed
        assert history.spent.fold_epochs <= max_fold_epochs


def test_long_trials_that_train_already_leave_the_budget_to_a_short_one() -> None:
    """Two trials of 30 fold-epochs spent the budget before it was known that they cannot finish."""
    short, long = ({"learning_rate": 0.01, "epochs": epochs} for epochs in (2, 10))
    events: list[Event] = [
        TrialStarted("t0000", "trial", long, 0, 3),
        TrialStarted("t0001", "trial", short, 0, 3),
        *(FoldReport("t0000", 0, epoch, 0.5, {}, None, 1.0) for epoch in range(1, 9)),
        FoldReport("t0001", 0, 1, 0.5, {}, None, 1.0),
        FoldReport("t0000", 0, 9, 0.5, {}, None, 1.0),
    ]
    space = replace(LENGTHS, stopping=Stopping(1, 3, "none"), budget=Budget(fold_epochs=16))
    policy = SearchPolicy(space, events)
    leader = last_affordable_trial(space, policy.history, policy.history.trials["t0000"])
    assert leader is policy.history.trials["t0001"]
    decision = policy.decide(policy.history.trials["t0000"])
    assert decision == TrialEnded("t0000", "stopped", "the budget is left to t0001")


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
