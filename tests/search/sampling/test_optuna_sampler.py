"""Optuna's samplers receive the history as Optuna trials."""

from pathlib import Path

from raysearch.search.sampling.optuna_sampler import optuna_trials
from support.result_studies import new_study, next_searched, train_next


def test_only_finished_trials_are_complete_for_optuna(shards: Path, tmp_path: Path) -> None:
    study = new_study(shards, tmp_path / "x")
    train_next(study, 7)
    trial = next_searched(study)
    study.fail(trial.id, "nan-loss")
    states = {"finished": "COMPLETE", "stopped": "PRUNED", "failed": "FAIL"}
    converted = optuna_trials(study.plan.space, study.history, by_rung=False)
    assert [optuna_trial.state.name for optuna_trial in converted] == [
        states[trial.status] for trial in study.history.searched()
    ]
    assert "PRUNED" in {optuna_trial.state.name for optuna_trial in converted}
    assert study.history.trials[trial.id].reason == "nan-loss"
