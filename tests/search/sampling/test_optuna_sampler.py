"""Optuna's samplers receive the history as Optuna trials."""

from pathlib import Path

from raysearch.config.hyperparameter_spec import Value
from raysearch.search.journal.events import Event, FoldReport, TrialStarted, ValueExcluded
from raysearch.search.journal.history import History
from raysearch.search.sampling.optuna_sampler import optuna_trials
from support.result_studies import new_study, next_searched, train_next
from support.simulated_studies import SPACE


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


def test_the_compared_rung_has_enough_trials_without_an_excluded_value() -> None:
    """Only trials with the excluded value reached the second rung; no trial would be complete."""
    events: list[Event] = []
    for number in range(18):
        name, optimizer = f"t{number:04d}", "sgd" if number < 9 else "adamw"
        hparams: dict[str, Value] = {"optimizer": optimizer, "learning_rate": 0.01, "folds": 3}
        if optimizer == "sgd":
            hparams["momentum"] = 0.8
        events.append(TrialStarted(name, "trial", hparams, 0, 3))
        for epoch in (1, 3)[: 2 if optimizer == "sgd" else 1]:
            value = 0.5 + number / 100
            events.append(FoldReport(name, 0, epoch, value, {}, None, 1.0, rung=True))
    events.append(ValueExcluded("optimizer", "sgd"))
    converted = optuna_trials(SPACE, History(events), by_rung=True)
    assert [trial.state.name for trial in converted] == ["COMPLETE"] * 9
    assert [trial.value for trial in converted] == [0.5 + number / 100 for number in range(9, 18)]
