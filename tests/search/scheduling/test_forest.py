"""The forest distributes a budget over new trials, paused trials and exploration."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.samplers import ForestSampler
from raysearch.config.space import Budget, Stopping
from raysearch.search.journal.events import FoldReport, TrialStarted
from raysearch.search.scheduling.policy import SearchPolicy
from support.simulated_studies import SPACE, SimulatedStudy, quality

FOREST_SPACE = replace(SPACE, stopping=Stopping(1, 3, "forest"), sampler=ForestSampler())


def test_in_the_second_half_of_a_budget_paused_trials_precede_new_ones() -> None:
    num_started = [0, 0]
    for seed in range(1, 4):
        space = replace(FOREST_SPACE, budget=Budget(fold_epochs=150), trials=100, seed=seed)
        policy = SearchPolicy(space)
        for event in SimulatedStudy(space, seed).run():
            if isinstance(event, TrialStarted):
                is_late = policy.history.spent.fold_epochs >= 75
                num_started[is_late] += 1
                assert not is_late or policy.rule.pick(policy.history, may_start=False) is None
            policy.apply(event)
    assert num_started[1] <= 0.15 * num_started[0]


def test_more_trials_start_if_the_budget_is_the_limit() -> None:
    num_started = []
    for budget in (Budget(), Budget(fold_epochs=200)):
        space = replace(FOREST_SPACE, budget=budget, trials=200)
        policy = SearchPolicy(space)
        for event in SimulatedStudy(space, 1).run():
            policy.apply(event)
            if policy.history.spent.fold_epochs == 100:
                break
        num_started.append(len(policy.history.searched()))
    assert num_started[1] > 1.2 * num_started[0], num_started


def test_each_choice_is_trained_to_the_end_of_a_fold() -> None:
    """Some optimizers are behind at first; a model that sees no end of theirs learns nothing."""

    def worse_with_sgd(hparams: Hparams) -> float:
        return quality(hparams) - 0.5 * (hparams["optimizer"] == "sgd")

    for seed in range(3):
        space = replace(FOREST_SPACE, trials=40, seed=seed)
        policy, num_fold_ends = SearchPolicy(space), Counter[object]()
        for event in SimulatedStudy(space, seed, objective=worse_with_sgd).run():
            policy.apply(event)
            if isinstance(event, FoldReport) and event.epoch == space.epochs:
                num_fold_ends[policy.history.trials[event.trial].hparams["optimizer"]] += 1
        # Once, or by two trials at the same time.
        assert 1 <= num_fold_ends["sgd"] <= 2, num_fold_ends
        assert num_fold_ends["adamw"] > 2, num_fold_ends
