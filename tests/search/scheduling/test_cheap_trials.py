"""The costs of trials of which some are cheap."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np

from raysearch.config.space import Hyperparameter, Space, Stopping
from raysearch.search.journal.events import FoldReport, TrialStarted
from raysearch.search.scheduling.cheap_trials import cheap_limit, relative_costs
from raysearch.search.scheduling.policy import SearchPolicy


def test_trials_are_cheap_if_they_cost_a_tenth_of_all_others() -> None:
    seconds = np.array([600.0, 2.0, 300.0, 3.0, 1200.0])
    limit = cheap_limit(np.log(seconds))
    assert limit is not None
    assert 3 < np.exp(limit) < 300
    assert cheap_limit(np.log(np.array([30.0, 100.0, 300.0, 900.0]))) is None
    assert cheap_limit(np.log(np.array([30.0, 299.0]))) is None
    assert cheap_limit(np.array([1.0])) is None


def test_the_advantage_of_cheap_trials_shrinks_with_their_number() -> None:
    log_seconds = np.array([0.0, 2.0, 10.0, 14.0])
    assert relative_costs(log_seconds, None, 0).tolist() == [-6.5, -4.5, 3.5, 7.5]
    for num_cheap in (0, 40):
        assert relative_costs(log_seconds, 6.0, num_cheap).tolist() == [-6.5, -4.5, 3.5, 7.5]
    assert relative_costs(log_seconds, 6.0, 80).tolist() == [-3.75, -1.75, 0.75, 4.75]
    many = relative_costs(log_seconds, 6.0, 10**6)
    assert np.allclose(many, [-1, 1, -2, 2], atol=0.001)


def test_the_search_learns_from_classifiers_with_one_fold_and_then_fine_tunes() -> None:
    """A classifier takes 2 s and reaches .8 at most, a fine-tuning 60 s an epoch and up to .9."""
    adaptation = Hyperparameter("adaptation", "choice", ("frozen", "full"))
    rate = Hyperparameter("learning_rate", "loguniform", (1e-4, 1e-1))
    space = Space((adaptation, rate), "auroc", "max", 6, 200, 0, Stopping(grace_period=1))
    policy, seconds = SearchPolicy(space), defaultdict[object, float](float)
    while sum(seconds.values()) < 6 * 3600 and (event := policy.next()) is not None:
        policy.apply(replace(event, folds=1) if isinstance(event, TrialStarted) else event)
        trial, decision = policy.history.trials[event.trial], None
        is_frozen = trial.hparams["adaptation"] == "frozen"
        while decision is None:
            epoch = 6 if is_frozen else trial.epoch + 1
            best = 0.8 if is_frozen else 0.9 - 0.1 / epoch
            value = best - abs(np.log10(float(trial.hparams["learning_rate"])) + 2.5) / 10
            cost_s = 2.0 if is_frozen else 60.0
            is_rung = policy.is_rung(trial, epoch)
            metrics = {"auroc": value}
            policy.apply(FoldReport(trial.id, 0, epoch, value, metrics, 0.0, cost_s, is_rung))
            seconds[trial.hparams["adaptation"]] += cost_s
            decision = policy.decide(trial)
        policy.apply(decision)
    started = Counter(trial.hparams["adaptation"] for trial in policy.history.searched())
    assert {trial.id for trial, _epoch, _value in policy.history.at_rungs} >= {
        trial.id for trial in policy.history.done() if trial.hparams["adaptation"] == "frozen"
    }
    # Cheap trials come first, and do not take the time of the others.
    assert started["frozen"] >= 30, started
    assert seconds["frozen"] < 0.1 * seconds["full"], seconds
    best_trial = policy.history.best(None, "max")
    assert best_trial is not None
    assert best_trial.hparams["adaptation"] == "full"
