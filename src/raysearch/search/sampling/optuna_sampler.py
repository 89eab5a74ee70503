"""Proposals by Optuna's samplers, which receive the history as Optuna trials.

The samplers receive at most `MAX_HISTORY` trials, the best and the newest, so that a proposal in a
long study takes no longer than in a medium one.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from raysearch.config.hyperparameter_spec import Value
from raysearch.config.samplers import GpSampler, TpeSampler
from raysearch.config.space import RANGES, Hyperparameter, Space
from raysearch.metrics.objective import objective_sign, optimization_direction
from raysearch.search.journal.history import (
    History,
    Status,
    Trial,
    total_fold_epochs,
    training_progress,
)
from raysearch.search.journal.rungs import RungKey

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

MAX_HISTORY = 500
# The names of Optuna's states.
STATES: Mapping[Status, str] = {
    "running": "RUNNING",
    "paused": "PRUNED",
    "finished": "COMPLETE",
    "stopped": "PRUNED",
    "failed": "FAIL",
}
# Steps of Optuna's intermediate values per fold, if trials have different numbers of folds.
STEPS_PER_FOLD = 1000


def propose_by_optuna(
    space: Space, sampler: TpeSampler | GpSampler, history: History, seed: int
) -> dict[str, Value]:
    """Propose hyperparameters by Optuna's sampler with `seed`, given the trials of `history`."""
    import optuna
    from optuna.exceptions import ExperimentalWarning

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    direction = optimization_direction(space.mode)
    by_rung = sampler.by_rung if isinstance(sampler, TpeSampler) else True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # groups of conditional parameters
        study = optuna.create_study(direction=direction, sampler=_optuna_sampler(sampler, seed))
        study.add_trials(optuna_trials(space, history, by_rung))
        trial = study.ask()
        return space.active_values(lambda hyperparameter: _suggest(trial, hyperparameter))


def _optuna_sampler(sampler: TpeSampler | GpSampler, seed: int) -> BaseSampler:
    from optuna.samplers import GPSampler, TPESampler

    if isinstance(sampler, GpSampler):
        return GPSampler(seed=seed, n_startup_trials=sampler.n_startup_trials)
    return TPESampler(
        seed=seed,
        multivariate=sampler.multivariate,
        group=sampler.multivariate if sampler.group is None else sampler.group,
        constant_liar=sampler.constant_liar,
        n_startup_trials=sampler.n_startup_trials,
    )


def _suggest(trial: optuna.Trial, hyperparameter: Hyperparameter) -> Value:
    low_high: Any = hyperparameter.values
    log = hyperparameter.kind.startswith("log")
    match hyperparameter.kind:
        case "fixed":
            return hyperparameter.values[0]
        case "choice":
            value: Value = trial.suggest_categorical(hyperparameter.name, list(low_high))
            return value
        case "int" | "logint":
            return trial.suggest_int(hyperparameter.name, *low_high, log=log)
        case _:
            return trial.suggest_float(hyperparameter.name, *low_high, log=log)


def distribution_of(hyperparameter: Hyperparameter) -> BaseDistribution:
    """The values of `hyperparameter` as Optuna's distribution."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    low_high: Any = hyperparameter.values
    log = hyperparameter.kind.startswith("log")
    if hyperparameter.kind in ("int", "logint"):
        return IntDistribution(low_high[0], low_high[1], log=log)
    if hyperparameter.kind in RANGES:
        return FloatDistribution(low_high[0], low_high[1], log=log)
    return CategoricalDistribution(list(low_high))


def optuna_trials(space: Space, history: History, by_rung: bool) -> list[FrozenTrial]:
    """Convert at most `MAX_HISTORY` searched trials to Optuna's, in the order of their starts.

    If `by_rung`, the trials are compared at the furthest rung that enough of them reached, and the
    others count as pruned. Otherwise, finished trials have their objective, and the others count as
    pruned at their last epoch. If the study has several numbers of folds or of epochs, an
    unfinished trial has the fraction of the trials at its last rung that are not better, because
    their objectives before the end cannot be compared. Trials with an excluded value are left out,
    because Optuna's trials have values of one space.
    """
    searched = [trial for trial in history.searched() if not history.is_excluded(trial.hparams)]
    trials = _best_and_newest(searched, space)
    has_several_lengths = len(space.values_of("folds")) > 1 or len(space.epoch_values) > 1
    level = None
    if by_rung and not has_several_lengths:
        level = _compared_level(history, trials, len(space.hparams))
    values = history.rungs[level].values if level is not None else {}
    return [
        _optuna_trial(space, history, trial, values.get(trial.id), has_several_lengths)
        for trial in trials
    ]


def _best_and_newest(trials: Sequence[Trial], space: Space) -> list[Trial]:
    """At most `MAX_HISTORY` of `trials`: half of them the best, half the newest."""
    if len(trials) <= MAX_HISTORY:
        return list(trials)
    newest, older = trials[-MAX_HISTORY // 2 :], trials[: -MAX_HISTORY // 2]
    sign = objective_sign(space.mode)
    reported = [trial for trial in older if trial.objective is not None]
    ranked = sorted(
        reported,
        key=lambda trial: (training_progress(space, trial), sign * (trial.objective or 0.0)),
    )
    selected = {trial.id for trial in (*ranked[-MAX_HISTORY // 2 :], *newest)}
    return [trial for trial in trials if trial.id in selected]


def _compared_level(history: History, trials: Sequence[Trial], num_hparams: int) -> RungKey | None:
    """The furthest rung with enough values of `trials` for a sampler."""
    names = {trial.id for trial in trials}
    levels = [
        level
        for level, rung in history.rungs.items()
        if len(names & rung.values.keys()) >= num_hparams + 4
    ]
    return max(levels, default=None)


def _optuna_trial(
    space: Space,
    history: History,
    trial: Trial,
    value_at_level: float | None,
    has_several_lengths: bool,
) -> FrozenTrial:
    from optuna.trial import TrialState, create_trial

    searched = {
        hyperparameter.name: hyperparameter
        for hyperparameter in space.hparams
        if hyperparameter.kind != "fixed" and hyperparameter.name in trial.hparams
    }
    state, value, intermediate_values = TrialState[STATES[trial.status]], None, {}
    if value_at_level is not None:
        state, value = TrialState.COMPLETE, value_at_level
    elif state is TrialState.COMPLETE:
        value = trial.final_objective
    elif trial.objective is not None:
        rank = _rank_at_last_rung(history, trial) if has_several_lengths else None
        step = trial.epoch
        if has_several_lengths:
            num_fold_epochs = total_fold_epochs(space, trial)
            step = trial.epoch * STEPS_PER_FOLD * space.epochs // max(1, num_fold_epochs)
        intermediate_values = {step: trial.objective if rank is None else rank}
    return create_trial(
        state=state,
        value=value,
        params={name: trial.hparams[name] for name in searched},
        distributions={
            name: distribution_of(hyperparameter) for name, hyperparameter in searched.items()
        },
        intermediate_values=intermediate_values,
    )


def _rank_at_last_rung(history: History, trial: Trial) -> float | None:
    """The fraction of the trials at the last rung of `trial` that it is not worse than."""
    for report in reversed(trial.reports):
        if report.rung:
            rung = history.rungs[trial.rung_key(report.epoch)]
            return float((np.array(list(rung.values.values())) <= report.objective).mean())
    return None
