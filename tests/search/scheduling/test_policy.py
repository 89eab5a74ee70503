"""The search policy decides whole studies, and decides the same again from their events."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler

from raysearch.config.constraints import allowed
from raysearch.config.report_interval import max_reports, min_reports
from raysearch.config.samplers import GridSampler
from raysearch.config.space import Budget, Hyperparameter, Rule, Stopping
from raysearch.config.space_file import parse_space
from raysearch.search.journal.events import FoldReport, TrialEnded, TrialStarted, ValueExcluded
from raysearch.search.journal.history import History, Trial
from raysearch.search.journal.rungs import RungKey
from raysearch.search.sampling.sampler import num_trials_left
from raysearch.search.scheduling.budget import fold_reports, missing_reports
from raysearch.search.scheduling.policy import SearchPolicy
from support.result_studies import TREE
from support.simulated_studies import (
    RULES,
    SPACE,
    SimulatedStudy,
    check_repeated_decisions,
    finished_policy,
    repeated_decisions,
    varied_space,
)


@pytest.mark.parametrize("rule", RULES)
def test_the_same_events_lead_to_the_same_decisions(rule: Rule) -> None:
    for seed in range(10):
        check_repeated_decisions(varied_space(seed, rule, "random"), seed)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "qmc", "grid"])
def test_every_sampler_proposes_the_same_again(sampler: str) -> None:
    check_repeated_decisions(varied_space(3, "promotion", sampler), 3)


def test_the_forest_decides_the_same_again() -> None:
    for seed in range(3):
        check_repeated_decisions(varied_space(seed, "forest", "forest"), seed)


@pytest.mark.slow
@pytest.mark.long
def test_a_thousand_studies_with_losses_kills_and_resumes_decide_the_same_again() -> None:
    num_decisions = 0
    for seed in range(960):
        space = varied_space(seed, RULES[seed % 3], "random")
        num_decisions += check_repeated_decisions(space, seed)
    for seed in range(40):
        num_decisions += check_repeated_decisions(varied_space(seed, "forest", "forest"), seed)
    assert num_decisions > 10_000


def test_asha_stops_and_finishes_the_same_trials_as_ray_tunes() -> None:
    space = replace(
        SPACE,
        hparams=(*SPACE.hparams[:-1], Hyperparameter("folds", "fixed", (1,))),
        epochs=20,
        trials=40,
    )
    events = SimulatedStudy(space, 5).run()
    scheduler = AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="objective",
        mode="max",
        max_t=20,
        grace_period=1,
        reduction_factor=3,
    )
    tune_trials: dict[str, Any] = {}
    stopped_at: dict[str, int] = {}
    for event in events:
        if isinstance(event, TrialStarted):
            tune_trials[event.trial] = SimpleNamespace(trial_id=event.trial)
            scheduler.on_trial_add(None, tune_trials[event.trial])
        if isinstance(event, FoldReport):
            result = {"epoch": event.epoch, "objective": event.objective}
            decision = scheduler.on_trial_result(None, tune_trials[event.trial], result)
            if decision == "STOP":
                stopped_at[event.trial] = event.epoch
    ends = {event.trial: event for event in events if isinstance(event, TrialEnded)}
    history = SearchPolicy(space, events).history
    assert stopped_at == {name: history.trials[name].epoch for name in ends}
    assert {"stopped", "finished"} == {event.status for event in ends.values()}


def test_promotion_continues_the_best_trials_and_ends_with_a_champion() -> None:
    space = replace(SPACE, stopping=Stopping(1, 3, "promotion"), trials=20)
    history = finished_policy(space, 1).history
    assert len(history.searched()) == 20
    assert history.done()
    assert not history.running()
    first_rung = history.rungs[RungKey(3, 1)].values
    assert len(first_rung) == 20
    promoted = [trial for trial in history.searched() if trial.epoch > 1]
    best = sorted(first_rung, key=lambda name: -first_rung[name])[:4]
    assert set(best) <= {trial.id for trial in promoted}
    assert len(promoted) <= 8


def test_trials_with_different_numbers_of_folds_share_no_rung() -> None:
    space = replace(
        SPACE, hparams=(*SPACE.hparams[:-1], Hyperparameter("folds", "choice", (2, 4))), trials=20
    )
    history = finished_policy(space, 2).history
    for level, rung in history.rungs.items():
        assert {history.trials[name].folds for name in rung.values} == {level.folds}
    assert {level.folds for level in history.rungs} == {2, 4}


@pytest.mark.parametrize("rule", [*RULES, "forest"])
def test_each_trial_has_its_own_epochs_and_shares_rungs_with_equal_ones_only(rule: Rule) -> None:
    epochs = Hyperparameter("epochs", "choice", (2, 4, 6))
    stopping = Stopping(1, 2, rule, 0, 0.1)
    space = replace(SPACE, hparams=(*SPACE.hparams, epochs), stopping=stopping, trials=16, epochs=6)
    study = SimulatedStudy(space, 4)
    events = study.run()
    history = SearchPolicy(space, events).history
    assert {trial.hparams["epochs"] for trial in history.searched()} == {2, 4, 6}
    assert history.done()
    for trial in history.done():
        assert trial.epoch == 3 * int(trial.hparams["epochs"])
        assert trial.reports[-1].fold == 2
    for level, rung in history.rungs.items():
        assert {history.trials[name].hparams["epochs"] for name in rung.values} == {level.epochs}
        assert level.epoch < 3 * level.epochs
    fold_ends = {level for level in history.rungs if level.epoch == level.epochs}
    assert len({level.epochs for level in fold_ends}) >= 2
    for event, decision in repeated_decisions(space, events):
        assert decision is not None
        assert replace(decision, number=event.number, time=event.time) == event


def test_a_grid_over_epochs_and_folds_is_one_study() -> None:
    hparams = (
        Hyperparameter("learning_rate", "fixed", (0.01,)),
        Hyperparameter("epochs", "choice", (2, 3, 4)),
        Hyperparameter("folds", "choice", (2, 3, 4)),
    )
    space = replace(
        SPACE,
        hparams=hparams,
        sampler=GridSampler(),
        stopping=Stopping(1, 3, "none"),
        trials=100,
        epochs=4,
    )
    trials = finished_policy(space, 7).history.done()
    lengths = sorted((int(trial.hparams["epochs"]), trial.folds, trial.epoch) for trial in trials)
    expected = [(epochs, folds, epochs * folds) for epochs in (2, 3, 4) for folds in (2, 3, 4)]
    assert lengths == expected


def test_a_trial_misses_the_reports_of_its_own_epochs() -> None:
    hparams = (
        Hyperparameter("learning_rate", "fixed", (0.01,)),
        Hyperparameter("epochs", "choice", (2, 6)),
        Hyperparameter("folds", "fixed", (2,)),
    )
    trial = Trial("t0000", "trial", {"epochs": 2}, 0, 2)
    space = replace(SPACE, hparams=hparams)
    assert (missing_reports(space, trial), fold_reports(space, trial)) == (4, 2)
    longer = Trial("t0001", "trial", {"epochs": 6}, 0, 2)
    assert (missing_reports(space, longer), fold_reports(space, longer)) == (12, 6)
    benchmark = Trial("benchmark", "benchmark", {"architecture": "benchmark"}, 0, 2)
    assert missing_reports(space, benchmark) == 12
    assert (min_reports(space), max_reports(space)) == (4, 12)


def test_the_budget_counts_the_fold_epochs_of_each_trial() -> None:
    epochs = Hyperparameter("epochs", "choice", (2, 6))
    space = replace(
        SPACE,
        hparams=(*SPACE.hparams, epochs),
        budget=Budget(fold_epochs=80),
        stopping=Stopping(1, 3, "none"),
        trials=100,
    )
    policy = finished_policy(space, 3)
    assert policy.exhausted() == "budget: fold-epochs 80"
    trials = policy.history.searched()
    assert sum(len(trial.reports) for trial in trials) == policy.history.spent.fold_epochs == 80
    lengths = {(trial.hparams["epochs"], trial.epoch) for trial in policy.history.done()}
    assert lengths == {(2, 6), (6, 18)}
    unfinished = [trial for trial in trials if trial.status == "stopped"]
    assert {trial.reason for trial in unfinished} == {"budget: fold-epochs 80"}


def test_points_are_evaluated_first_and_completed_by_proposals() -> None:
    points = ((("optimizer", "sgd"), ("momentum", 0.8)), (("learning_rate", 0.003),))
    space = replace(SPACE, points_to_evaluate=points, trials=4)
    first, second, third, _fourth = finished_policy(space, 6).history.searched()
    assert (first.hparams["optimizer"], first.hparams["momentum"]) == ("sgd", 0.8)
    assert 1e-4 <= float(first.hparams["learning_rate"]) <= 1e-1
    assert second.hparams["learning_rate"] == 0.003
    assert third.hparams["learning_rate"] not in (0.003, first.hparams["learning_rate"])


def test_each_point_of_a_grid_is_evaluated_once() -> None:
    hparams = (
        Hyperparameter("optimizer", "choice", ("adamw", "sgd")),
        Hyperparameter("momentum", "uniform", (0.5, 0.9), (("optimizer", ("sgd",)),)),
        Hyperparameter("learning_rate", "loguniform", (1e-3, 1e-1)),
        Hyperparameter("folds", "fixed", (3,)),
    )
    space = replace(SPACE, hparams=hparams, sampler=GridSampler(steps=3), trials=100)
    trials = finished_policy(space, 7).history.searched()
    assert len(trials) == 3 + 3 * 3
    assert len({str(trial.hparams) for trial in trials}) == len(trials)
    rates = {round(float(trial.hparams["learning_rate"]), 6) for trial in trials}
    assert rates == {0.001, 0.01, 0.1}


@pytest.mark.parametrize(
    ("point", "num_trials"),
    [
        ((("optimizer", "sgd"), ("learning_rate", 0.1)), 4),
        ((("learning_rate", 0.1),), 4),
        ((("optimizer", "sgd"), ("learning_rate", 0.05)), 5),
    ],
)
def test_a_grid_trains_its_points_once_beside_those_to_evaluate(
    point: tuple[tuple[str, str | float], ...], num_trials: int
) -> None:
    hparams = (
        Hyperparameter("optimizer", "choice", ("adamw", "sgd")),
        Hyperparameter("learning_rate", "choice", (0.01, 0.1)),
        Hyperparameter("folds", "fixed", (3,)),
    )
    space = replace(
        SPACE, hparams=hparams, sampler=GridSampler(), trials=100, points_to_evaluate=(point,)
    )
    assert num_trials_left(space, History(), 100) == num_trials
    history = finished_policy(space, 7).history
    trials = history.searched()
    assert dict(point).items() <= dict(trials[0].hparams).items()
    assert len(trials) == num_trials
    assert len({str(sorted(trial.hparams.items())) for trial in trials}) == num_trials
    grid_trials = {(trial.hparams["optimizer"], trial.hparams["learning_rate"]) for trial in trials}
    assert grid_trials >= {(name, rate) for name in ("adamw", "sgd") for rate in (0.01, 0.1)}
    assert num_trials_left(space, history, 100) == 0


@pytest.mark.parametrize("rule", ["asha", "forest"])
@pytest.mark.parametrize("sampler", ["forest", "tpe", "random", "grid", "qmc"])
def test_every_proposal_satisfies_the_constraints(sampler: str, rule: str) -> None:
    constraint = "learning_rate < 0.01 or optimizer == 'sgd'"
    tree = TREE | {"sampler": sampler, "trials": 30, "constraints": [constraint]}
    tree |= {"stopping": {"rule": rule}}
    space = parse_space(tree, "x")
    policy = SearchPolicy(space)
    for number in range(30):
        event = policy.next()
        if event is None:
            assert sampler == "grid"
            break
        assert isinstance(event, TrialStarted)
        assert allowed(space, event.hparams)
        policy.apply(event)
        value = float(np.random.default_rng(number).random())
        policy.apply(FoldReport(event.trial, 0, 1, value, {}, None, 1.0, rung=True))
    assert len(policy.history.searched()) >= 15


def test_rare_configurations_start_after_an_exclusion() -> None:
    """About one in 1,000 random configurations without the value satisfies the constraint."""
    constraint = "optimizer == 'adamw' or width >= 16 and learning_rate > 0.09"
    tree = TREE | {"sampler": "random", "constraints": [constraint]}
    space, exclusion = parse_space(tree, "x"), ValueExcluded("optimizer", "adamw")
    events = [SearchPolicy(space, [exclusion]).next() for _again in range(2)]
    assert isinstance(events[0], TrialStarted)
    assert events[0] == events[1]
    assert allowed(space, events[0].hparams)
    assert events[0].hparams["optimizer"] == "sgd"
