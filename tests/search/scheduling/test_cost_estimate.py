"""The expected cost of a study."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from raysearch.config.space_file import parse_space
from raysearch.search.scheduling import cost_estimate
from raysearch.search.scheduling.cost_estimate import expected_fold_epochs, simulate_search
from raysearch.search.scheduling.epoch_seconds import EpochSeconds
from raysearch.search.scheduling.policy import rule_of
from raysearch.search.scheduling.time_forecast import forecast_time
from raysearch.search.scheduling.work_after_search import OVERHEAD_S
from support.result_studies import TREE


def test_the_expected_cost_is_between_one_rung_and_all_fold_epochs() -> None:
    for rule in ("none", "asha", "promotion", "forest"):
        space = parse_space(TREE | {"trials": 20, "epochs": 9, "stopping": {"rule": rule}}, "x")
        estimate = expected_fold_epochs(space)
        assert 20 < estimate <= 20 * 9 * 2
        assert (estimate == 20 * 9 * 2) == (rule == "none")
        assert expected_fold_epochs(replace(space, trials=40)) > estimate


def test_the_simulation_costs_about_as_much_as_one_with_the_forest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spaces = [
        parse_space(TREE | {"trials": trials, "epochs": epochs}, "x")
        for trials in (8, 20, 40)
        for epochs in (3, 9, 20)
    ]
    estimates = np.array([expected_fold_epochs(space) for space in spaces])
    monkeypatch.setattr(
        cost_estimate, "simulated_rule", lambda space, _seconds, **_options: rule_of(space)
    )
    with_forest = np.array([expected_fold_epochs(space) for space in spaces])
    ratios = np.log(estimates / with_forest)
    assert np.exp(np.abs(ratios).mean()) < 1.2
    assert np.exp(np.abs(ratios).max()) < 1.5


def test_a_frozen_network_reports_once_a_fold_and_takes_the_time_of_its_folds() -> None:
    hparams = {
        "folds": 3,
        "architecture": "resnet18",
        "weights": "imagenet",
        "adaptation": {"choice": ["full", "frozen"]},
        "classifier": {"choice": ["nearest_centroid"], "when": {"adaptation": "frozen"}},
    }
    tree = TREE | {"trials": 30, "epochs": 8, "stopping": {"rule": "none"}, "space": hparams}
    space = parse_space(tree, "x")
    search = simulate_search(space)
    reports = {trial.network: trial.fold_epochs for trial in search.trials}
    assert reports == {"resnet18 (full)": 24, "resnet18 (frozen)": 3}
    assert all(trial.has_finished for trial in search.trials)
    seconds = {"resnet18 (full)": EpochSeconds((10.0,)), "resnet18 (frozen)": EpochSeconds((0.1,))}
    forecast = forecast_time(space, search, seconds, 1, 2)
    num_full = sum(trial.network == "resnet18 (full)" for trial in search.trials)
    work_s = num_full * 24 * (10 + OVERHEAD_S) + (30 - num_full) * 3 * (0.1 + OVERHEAD_S)
    assert forecast.search == pytest.approx(work_s, rel=0.2)
    assert forecast.fractions["resnet18 (frozen)"] < 0.01


def test_a_network_that_constraints_make_rare_is_forecast_as_the_others() -> None:
    hparams = {
        "folds": 2,
        "architecture": "mobilenet_v2",
        "weights": "imagenet",
        "input_size": {"int": [32, 224]},
        "adaptation": {"choice": ["frozen", "full"]},
        "classifier": {"choice": ["nearest_centroid"], "when": {"adaptation": "frozen"}},
    }
    constraints = ["adaptation != 'full' or input_size < 36"]
    tree = TREE | {"trials": 30, "epochs": 2, "space": hparams, "constraints": constraints}
    space = parse_space(tree, "x")
    known = {"mobilenet_v2 (frozen)": EpochSeconds((1.0, 3.0))}
    for seed in range(3):
        search = simulate_search(replace(space, seed=seed), {"mobilenet_v2 (frozen)": 2.0})
        assert forecast_time(space, search, known, 1, 2).total > 0


def test_an_estimate_does_not_import_scikit_learn_or_scipy() -> None:
    code = """
import sys
from raysearch.config.space_file import parse_space
from raysearch.search.scheduling.cost_estimate import expected_fold_epochs
tree = {"objective": {"metric": "auroc", "mode": "max"}, "epochs": 3, "trials": 12,
        "space": {"folds": 2, "architecture": "cnn", "width": {"choice": [4, 8]}}}
expected_fold_epochs(parse_space(tree, "x"))
sys.exit(" ".join({"sklearn", "scipy", "torch", "pandas"} & set(sys.modules)) or None)
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
