"""The forest distributes a budget over new trials, paused trials and exploration."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.samplers import ForestSampler
from raysearch.config.space import Budget, Prior, Stopping
from raysearch.search.journal.events import FoldReport, StudyLaunched, TrialStarted, ValueExcluded
from raysearch.search.sampling.sampler import propose, sampled_origin
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


SECONDS = {"adamw": 3.0, "sgd": 60.0}


def test_no_trial_begins_that_cannot_end_before_the_study() -> None:
    """On one worker, with half an hour; 18 fold-epochs of 3 or 60 seconds."""
    for seed in range(2):
        space = replace(FOREST_SPACE, budget=Budget(hours=0.5), trials=2000, seed=seed)
        policy, now, num_started = SearchPolicy(space), 0.0, Counter[object]()
        while (event := policy.next()) is not None:
            policy.apply(replace(event, time=now))
            trial = policy.history.trials[event.trial]
            seconds = SECONDS[str(trial.hparams["optimizer"])]
            if isinstance(event, TrialStarted) and policy.history.done():
                assert 18 * seconds <= 1800 - now or 1800 - now < 18 * 3
                num_started[trial.hparams["optimizer"]] += 1
            decision = None
            while decision is None:
                now += seconds
                value = quality(trial.hparams) - 0.1 / (trial.epoch + 1)
                report = FoldReport(
                    *(trial.id, trial.epoch // 6, trial.epoch + 1, value, {"auroc": value}),
                    *(0.0, seconds, policy.is_rung(trial, trial.epoch + 1)),
                    time=now,
                )
                policy.apply(report)
                decision = policy.decide(trial)
            policy.apply(replace(decision, time=now))
        assert num_started["adamw"] > 10, num_started
        assert 1500 < now < 1900


def test_a_prior_is_followed_at_first_and_left_if_it_is_wrong() -> None:
    for around in (10**-2.5, 2e-4):
        prior = (Prior("learning_rate", around, 1.2),)
        space = replace(FOREST_SPACE, trials=40, prior=prior)
        policy = SearchPolicy(space)
        for event in SimulatedStudy(space, 1).run():
            policy.apply(event)
        trials = policy.history.searched()
        first = trials[0].hparams
        assert trials[0].origin == "prior"
        assert around / 2 < float(first["learning_rate"]) < around * 2
        assert {trial.origin for trial in trials[:8]} == {"prior", "random"}
        assert {trial.origin for trial in trials[8:]} == {"model"}
        best = policy.history.best(None, "max")
        assert best is not None
        assert abs(math.log10(float(best.hparams["learning_rate"])) + 2.5) < 0.4, around


def test_a_prior_proposes_what_is_not_excluded_and_what_the_random_sampler_draws() -> None:
    prior = (Prior("optimizer", weights=(("sgd", 1e6),)),)
    space = replace(SPACE, prior=prior)
    policy = SearchPolicy(space, [StudyLaunched("x", 1)])
    by_prior = [sampled_origin(space, number) == "prior" for number in range(200)]
    assert by_prior[0]
    assert sum(by_prior[:20]) > 2 * sum(by_prior[100:120])
    drawn = [propose(space, policy.history, number)["optimizer"] for number in range(200)]
    assert {value for value, is_drawn in zip(drawn, by_prior, strict=True) if is_drawn} == {"sgd"}
    assert drawn.count("adamw") > 50
    policy.apply(ValueExcluded("optimizer", "sgd"))
    assert propose(space, policy.history, 0)["optimizer"] == "adamw"
