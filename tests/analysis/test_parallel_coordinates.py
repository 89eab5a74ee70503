"""Trials over the ranges of their hyperparameters."""

from pathlib import Path

import pytest

from raysearch.analysis.hyperparameter_importance import _Rows
from raysearch.analysis.parallel_coordinates import parallel_coordinates
from raysearch.search.study.study import Study
from support.figure_studies import figure_study
from support.result_studies import TREE, new_study, next_searched, report_epochs, train_next


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    return figure_study(shards, tmp_path / "studies" / "seen")


def test_the_best_third_are_those_with_the_most_fold_epochs(study: Study) -> None:
    coordinates = parallel_coordinates(study.plan, study.history.searched())
    epochs = [line.trial.epoch for line in coordinates.lines]
    assert epochs == sorted(epochs, reverse=True)
    assert coordinates.num_best == -(-len(coordinates.lines) // 3)
    assert [line.is_best for line in coordinates.lines[: coordinates.num_best]] == [
        True
    ] * coordinates.num_best


def test_trials_of_different_epochs_are_compared_by_the_fraction(
    shards: Path, tmp_path: Path
) -> None:
    tree = {key: value for key, value in TREE.items() if key != "epochs"}
    tree |= {
        "space": {**TREE["space"], "epochs": {"choice": [4, 20]}},
        "stopping": {"rule": "none"},
    }
    study = new_study(shards, tmp_path / "x", tree)
    for _ in range(6):
        report_epochs(study, next_searched(study), 6)
    trials = study.history.searched()
    lines = parallel_coordinates(study.plan, trials).lines
    lengths = [int(line.trial.hparams["epochs"]) for line in lines]
    assert lengths == sorted(lengths)
    assert set(lengths) == {4, 20}
    rows = _Rows.of_trials(study.plan, trials)
    fractions = [number / 8 for number in range(1, 7)], [number / 40 for number in range(1, 7)]
    for number, trial in enumerate(trials):
        is_long = trial.hparams["epochs"] == 20
        expected = [40 * fraction for fraction in fractions[is_long]]
        assert rows.features[rows.trials == number, -1].tolist() == pytest.approx(expected)


def test_positions_are_between_zero_and_one_and_absent_ones_are_counted(study: Study) -> None:
    coordinates = parallel_coordinates(study.plan, study.history.searched())
    assert all(0 <= value <= 1 for line in coordinates.lines for value in line.positions.values())
    by_name = {hparam.name: hparam for hparam in coordinates.hparams}
    counts = coordinates.choice_counts(by_name["optimizer"])
    assert sum(total for _choice, _best, total in counts) == len(coordinates.lines)
    assert sum(best for _choice, best, _total in counts) == coordinates.num_best
    num_adamw = {choice: total for choice, _best, total in counts}["adamw"]
    assert coordinates.num_absent(by_name["momentum"]) == num_adamw
    assert coordinates.num_absent(by_name["width"]) == 0


def test_the_smallest_objective_is_first_if_it_is_minimized(shards: Path, tmp_path: Path) -> None:
    tree = TREE | {"objective": {"metric": "log_loss", "mode": "min"}}
    study = new_study(shards, tmp_path / "x", tree)
    train_next(study, 12)
    best = parallel_coordinates(study.plan, study.history.searched()).lines[0].trial
    assert best.status == "finished"
    objectives = [
        trial.objective or 9.0 for trial in study.history.searched() if trial.status == "finished"
    ]
    assert best.objective == min(objectives)
