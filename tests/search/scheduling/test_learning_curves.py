"""The surrogate is fitted to learning curves without memorizing single trials."""

from dataclasses import replace

import numpy as np
import pytest

from raysearch.config.space import Hyperparameter, Space, Stopping
from raysearch.search.journal.history import Trial
from raysearch.search.scheduling.learning_curves import (
    MAX_LEAF_PARTS,
    MIN_LEAF_ROWS,
    Curves,
    ForestSurrogate,
)
from support.result_studies import fold_report

EPOCHS = 4


def curves_over(folds: int, trials: int) -> Curves:
    """The first folds of so many trials, a rung after every epoch."""
    searched = (
        Hyperparameter("learning_rate", "loguniform", (1e-4, 1e-1)),
        Hyperparameter("folds", "fixed", (folds,)),
    )
    space = Space(searched, "auroc", "max", EPOCHS, trials, 0, Stopping(1, 3, "forest"))
    curves = Curves(space)
    rng = np.random.default_rng(0)
    for number in range(trials):
        hparams = {"learning_rate": float(10 ** rng.uniform(-4, -1)), "folds": folds}
        trial = Trial(f"t{number:04d}", "trial", hparams, number, folds)
        curves.add_trial(trial)
        for epoch in range(1, EPOCHS + 1):
            trial.reports.append(fold_report(trial.id, epoch, float(rng.random())))
            curves.add_report(trial, epoch, trial.reports[-1].objective or 0.0)
    return curves


def smallest_leaf(curves: Curves) -> int:
    surrogate = ForestSurrogate(curves, len(curves), 1.0, seed=0)
    return min(
        int(tree.n_node_samples[tree.children_left == -1].min()) for tree in surrogate._trees
    )


@pytest.mark.parametrize("trials", [3, 9, 60])
def test_with_several_folds_no_leaf_memorizes_a_trial(trials: int) -> None:
    num_rows = len(curves_over(2, trials).training_rows(trials * EPOCHS)[0])
    assert smallest_leaf(curves_over(2, trials)) >= min(
        MIN_LEAF_ROWS, 1 + num_rows // MAX_LEAF_PARTS
    )
    assert smallest_leaf(curves_over(1, trials)) == 1


def test_a_surrogate_depends_only_on_the_first_reports() -> None:
    """A surrogate of the first reports is the same, whatever followed them."""
    early, late = curves_over(2, 9), curves_over(2, 60)
    rows = early.new_rows(np.array([[0.1, 0.0], [0.9, 0.0]]), 1.0).astype(np.float32)
    early_bounds, late_bounds = (
        ForestSurrogate(curves, 9 * EPOCHS, 1.0, 0).upper_confidence_bounds(rows, 1.5)
        for curves in (early, late)
    )
    assert np.array_equal(early_bounds, late_bounds)


def test_the_exploration_weight_applies_only_to_started_trials() -> None:
    curves = curves_over(2, 60)
    new = curves.new_rows(np.array([[0.1, 0.0], [0.9, 0.0]]), 1.0)
    [best] = curves.best(len(curves), 1.0)[:1]
    rows = np.array([*new, curves.rows([best], 1.0)[0]]).astype(np.float32)
    surrogate = ForestSurrogate(curves, len(curves), 1.0, seed=0)
    mean, less, more = (
        surrogate.upper_confidence_bounds(rows, exploration_weight)
        for exploration_weight in (0.0, 0.75, 1.5)
    )
    assert np.array_equal(less[:2], more[:2])
    assert mean[2] < less[2] < more[2]
    assert more[2] - mean[2] == pytest.approx(2 * (less[2] - mean[2]))


def test_without_varying_hyperparameters_every_trial_costs_the_same() -> None:
    space = Space(
        (Hyperparameter("learning_rate", "fixed", (0.1,)), Hyperparameter("folds", "fixed", (2,))),
        *("auroc", "max", EPOCHS, 2, 0),
        Stopping(1, 3, "forest"),
    )
    curves = Curves(space)
    for number in range(2):
        trial = Trial(f"t{number:04d}", "trial", {"learning_rate": 0.1, "folds": 2}, number, 2)
        curves.add_trial(trial)
        trial.reports.append(fold_report(trial.id, 1, 0.5 + number / 10))
        curves.add_report(trial, 1, trial.reports[-1].objective or 0.0)
    rows = curves.training_rows(len(curves))[0].astype(np.float32)
    surrogate = ForestSurrogate(curves, len(curves), 1.0, seed=0)
    seconds = np.exp(surrogate.log_seconds(rows))
    assert seconds == pytest.approx(trial.reports[0].seconds)
    assert np.isfinite(surrogate.upper_confidence_bounds(rows, 1.0)).all()


def test_the_cost_of_a_trial_does_not_depend_on_later_reports() -> None:
    """A resumed search has all reports of a trial when it adds the first one."""
    hparams = (Hyperparameter("learning_rate", "loguniform", (1e-4, 1e-1)),)
    space = Space(hparams, "auroc", "max", EPOCHS, 2, 0, Stopping(3, 3, "forest"))
    costs = []
    for is_resumed in (False, True):
        curves = Curves(space)
        trial = Trial("t0000", "trial", {"learning_rate": 0.1}, 0, 1)
        reports = [replace(fold_report(trial.id, 1 + n, 0.5), seconds=1.0 + n) for n in range(3)]
        curves.add_trial(trial)
        trial.reports += reports if is_resumed else reports[:1]
        curves.add_report(trial, 1, 0.5)
        trial.reports[1:] = reports[1:]
        curves.add_report(trial, 3, 0.5)
        costs.append([float(curves.seconds_per_epoch(count)[1][0]) for count in (1, 2)])
    assert costs[0] == costs[1] == [0.0, pytest.approx(np.log(2))]
