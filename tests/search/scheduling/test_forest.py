"""What the forest learns from, and how much of it by heart."""

import numpy as np
import pytest

from raysearch.config.space import Hyperparameter, Space, Stopping
from raysearch.search.journal.history import Trial
from raysearch.search.scheduling.learning_curves import LEAF, LEAVES, Curves, Model
from support.result_studies import report

EPOCHS = 4


def curves_over(folds: int, trials: int) -> Curves:
    """The first folds of so many trials, a rung after every epoch."""
    hparams = (
        Hyperparameter("learning_rate", "loguniform", (1e-4, 1e-1)),
        Hyperparameter("folds", "fixed", (folds,)),
    )
    space = Space(hparams, "auroc", "max", EPOCHS, trials, 0, Stopping(1, 3, "forest"))
    curves = Curves(space)
    draw = np.random.default_rng(0)
    for number in range(trials):
        chosen = {"learning_rate": float(10 ** draw.uniform(-4, -1)), "folds": folds}
        trial = Trial(f"t{number:04d}", "trial", chosen, number, folds)
        curves.begin(trial)
        for epoch in range(1, EPOCHS + 1):
            trial.reports.append(report(epoch, float(draw.random())))
            curves.take(trial, epoch / (folds * EPOCHS), trial.reports[-1]["objective"])
    return curves


def smallest_leaf(curves: Curves) -> int:
    model = Model(curves, len(curves), 1.0, seed=0)
    return min(int(tree.n_node_samples[tree.children_left == -1].min()) for tree in model._trees)


@pytest.mark.parametrize("trials", [3, 9, 60])
def test_over_several_folds_no_leaf_is_a_trial_by_heart(trials: int) -> None:
    rows = len(curves_over(2, trials).learned(trials * EPOCHS)[0])
    assert smallest_leaf(curves_over(2, trials)) >= min(LEAF, 1 + rows // LEAVES)
    assert smallest_leaf(curves_over(1, trials)) == 1


def test_what_a_leaf_holds_hangs_on_what_was_known_then() -> None:
    """A model of the first reports is the same whatever came after them."""
    early, late = curves_over(2, 9), curves_over(2, 60)
    asked = early.new_rows(np.array([[0.1, 0.0], [0.9, 0.0]]), 1.0).astype(np.float32)
    then, now = (
        Model(one, 9 * EPOCHS, 1.0, 0).upper_confidence_bounds(asked, 1.5) for one in (early, late)
    )
    assert np.array_equal(then, now)


def test_only_a_trial_that_has_begun_is_judged_by_the_optimism_asked_for() -> None:
    curves = curves_over(2, 60)
    new = curves.new_rows(np.array([[0.1, 0.0], [0.9, 0.0]]), 1.0)
    [some] = curves.best(len(curves), 1.0)[:1]
    asked = np.array([*new, curves.row(some, 1.0)]).astype(np.float32)
    model = Model(curves, len(curves), 1.0, seed=0)
    mean, less, more = (
        model.upper_confidence_bounds(asked, exploration_weight)
        for exploration_weight in (0.0, 0.75, 1.5)
    )
    assert np.array_equal(less[:2], more[:2])
    assert mean[2] < less[2] < more[2]
    assert more[2] - mean[2] == pytest.approx(2 * (less[2] - mean[2]))


def test_where_nothing_varies_the_forest_forecasts_all_the_same() -> None:
    space = Space(
        (Hyperparameter("learning_rate", "fixed", (0.1,)), Hyperparameter("folds", "fixed", (2,))),
        *("auroc", "max", EPOCHS, 2, 0),
        Stopping(1, 3, "forest"),
    )
    curves = Curves(space)
    for number in range(2):
        trial = Trial(f"t{number:04d}", "trial", {"learning_rate": 0.1, "folds": 2}, number, 2)
        curves.begin(trial)
        trial.reports.append(report(1, 0.5 + number / 10))
        curves.take(trial, 1 / 8, trial.reports[-1]["objective"])
    rows = curves.learned(len(curves))[0].astype(np.float32)
    model = Model(curves, len(curves), 1.0, seed=0)
    assert model.costs(rows).tolist() == [0.0] * len(rows)
    assert np.isfinite(model.upper_confidence_bounds(rows, 1.0)).all()
