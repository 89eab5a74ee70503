"""The best objective of a study over the fold-epochs that it spent."""

from pathlib import Path

import numpy as np
import pytest

from raysearch.analysis.optimization_history import OptimizationHistory, optimization_history
from raysearch.search.study.study import Study
from support.figure_studies import figure_study
from support.result_studies import TREE, new_study, train_next


def history_of(study: Study) -> OptimizationHistory:
    return optimization_history(study.history.searched(), 2, study.plan.space.mode)


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    return figure_study(shards, tmp_path / "studies" / "seen")


def test_only_finished_trials_improve_the_best_objective(study: Study) -> None:
    history, trials = history_of(study), study.history.searched()
    objectives = [trial.objective for trial in trials if trial.status == "finished"]
    assert history.spent == sum(len(trial.reports) for trial in trials)
    best = [objective for _spent, objective in history.best_so_far]
    assert best[-1] == max(objective for objective in objectives if objective is not None)
    assert history.points[-1].objective == 0.99  # of the running trial
    assert best == sorted(best)


def test_the_smallest_objective_is_the_best_if_it_is_minimized(
    shards: Path, tmp_path: Path
) -> None:
    tree = TREE | {"objective": {"metric": "log_loss", "mode": "min"}}
    study = new_study(shards, tmp_path / "x", tree)
    train_next(study, 12)
    best = [objective for _spent, objective in history_of(study).best_so_far]
    assert best == sorted(best, reverse=True)


def test_a_paused_trial_is_not_finished(study: Study) -> None:
    study.history.searched()[-1].status = "paused"
    assert not history_of(study).points[-1].finished


def test_the_expected_best_of_random_trials_is_beside_a_search_with_a_memory(
    shards: Path, tmp_path: Path
) -> None:
    study = new_study(shards, tmp_path / "x", TREE)
    train_next(study, 12)
    trials = study.history.searched()
    assert not history_of(study).random  # nothing came from elsewhere
    for number, trial in enumerate(trials):
        trial.origin, trial.status = "memory" if number % 2 else "random", "finished"
    history = history_of(study)
    drawn = [trial.objective or 0.0 for trial in trials if trial.origin == "random"]
    spent, expected = zip(*history.random, strict=True)
    assert spent[-1] == history.spent
    assert expected[0] == pytest.approx(np.mean(drawn))
    generator = np.random.default_rng(0)
    best = generator.choice(drawn, (20_000, len(trials))).max(axis=1).mean()
    assert expected[-1] == pytest.approx(best, abs=0.002)
    assert list(expected) == sorted(expected)
    for trial in trials[:8:2]:  # two that finished say too little
        trial.status = "stopped"
    assert not history_of(study).random
