"""Who proposes the hyperparameters of the next trial: a function of the space, the seed and what is known.

The samplers that learn see at most `MAX_HISTORY` trials, the best and the newest, so that a proposal
costs no more in a long study than in a middling one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from raysearch.config.constraints import allowed
from raysearch.config.space import RANGES, Hyperparameter, Space, Value
from raysearch.search.journal.history import History, Trial
from raysearch.search.sampling.designs import evenly, grid
from raysearch.search.sampling.unit_cube import draw
from raysearch.training.seeds import key

MAX_HISTORY = 500
STATES: dict[str, TrialState] = {
    "running": TrialState.RUNNING,
    "paused": TrialState.PRUNED,
    "finished": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
LEARNING = ("tpe", "gp")


def propose(space: Space, history: History, number: int, attempt: int = 0) -> dict[str, Value]:
    """The hyperparameters of the trial `number` of a study that knows `history`, always the same ones.

    An `attempt` after the first proposes something else. None are left where a grid has no further
    one. The first proposals of the sampler `forest` are drawn at random; its others are made in
    `raysearch.search.scheduling.forest`.
    """
    options = dict(space.sampling.options)
    seed = key(space.seed, "sampler", number, *([attempt] if attempt else [])) % 2**32
    match space.sampling.name:
        case "grid":
            steps = int(options.get("steps", 5))
            fit = (one for one in grid(space, steps) if allowed(space, one))
            return next(islice(fit, number, None), None) or {}
        case "qmc":
            kind, scramble = str(options.get("type", "sobol")), bool(options.get("scramble", True))
            return evenly(space, space.seed, number + attempt * 10**6, kind, scramble)
        case "tpe" | "gp":
            return _ask_optuna(space, history, seed, options)
        case _:
            return draw(space, np.random.default_rng(seed))


def _ask_optuna(
    space: Space, history: History, seed: int, options: Mapping[str, Any]
) -> dict[str, Value]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    direction: Literal["maximize", "minimize"]
    direction = "maximize" if space.mode == "max" else "minimize"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # grouping conditional hyperparameters
        sampler = OPTUNAS[space.sampling.name](seed, options)
        study = optuna.create_study(direction=direction, sampler=sampler)
        study.add_trials(told(space, history, bool(options.get("by_rung", True))))
        return _walk(space, study.ask())


def _tpe(seed: int, options: Mapping[str, Any]) -> BaseSampler:
    return TPESampler(
        seed=seed,
        multivariate=bool(options.get("multivariate", True)),
        group=bool(options.get("group", options.get("multivariate", True))),
        constant_liar=bool(options.get("constant_liar", True)),
        n_startup_trials=int(options.get("startup_trials", 10)),
    )


def _gp(seed: int, options: Mapping[str, Any]) -> BaseSampler:
    return GPSampler(seed=seed, n_startup_trials=int(options.get("startup_trials", 10)))


OPTUNAS: dict[str, Callable[[int, Mapping[str, Any]], BaseSampler]] = {"tpe": _tpe, "gp": _gp}


def _walk(space: Space, asked: optuna.Trial) -> dict[str, Value]:
    chosen: dict[str, Value] = {}
    for hyperparameter in space.hparams:
        if not hyperparameter.active(chosen):
            continue
        low_high: Any = hyperparameter.values
        log = hyperparameter.kind.startswith("log")
        if hyperparameter.kind == "fixed":
            chosen[hyperparameter.name] = hyperparameter.values[0]
        elif hyperparameter.kind == "choice":
            chosen[hyperparameter.name] = asked.suggest_categorical(
                hyperparameter.name, list(low_high)
            )
        elif hyperparameter.kind in ("int", "logint"):
            chosen[hyperparameter.name] = asked.suggest_int(hyperparameter.name, *low_high, log=log)
        else:
            chosen[hyperparameter.name] = asked.suggest_float(
                hyperparameter.name, *low_high, log=log
            )
    return chosen


def distribution_of(hyperparameter: Hyperparameter) -> BaseDistribution:
    """The values of `hyperparameter` as Optuna's distribution."""
    values: Any = hyperparameter.values
    log = hyperparameter.kind.startswith("log")
    if hyperparameter.kind in ("int", "logint"):
        return IntDistribution(values[0], values[1], log=log)
    if hyperparameter.kind in RANGES:
        return FloatDistribution(values[0], values[1], log=log)
    return CategoricalDistribution(list(values))


def told(space: Space, history: History, by_rung: bool) -> list[FrozenTrial]:
    """What Optuna is told of the searched trials: at most `MAX_HISTORY`, in their order.

    By rung, the trials are compared at the furthest rung to which enough of them came, and the
    others as pruned; else finished ones by their objective, and the others as pruned where they
    are. With several numbers of folds, a trial that is not finished counts by its place at its own
    rung: values of two numbers of folds are not compared.
    """
    trials = _chosen(history.searched(), space.mode)
    several = len(space.values_of("folds", 0)) > 1
    level = None if several or not by_rung else _compared_level(history, len(space.hparams))
    values = history.rungs[level].values if level is not None else {}
    return [_frozen(space, history, one, values.get(one.id), several) for one in trials]


def _chosen(trials: Sequence[Trial], mode: str) -> list[Trial]:
    """At most `MAX_HISTORY` of `trials`: the best half of that number, and the newest."""
    if len(trials) <= MAX_HISTORY:
        return list(trials)
    newest, older = trials[-MAX_HISTORY // 2 :], trials[: -MAX_HISTORY // 2]
    sign = 1.0 if mode == "max" else -1.0
    reported = [one for one in older if one.objective is not None]
    best = sorted(reported, key=lambda one: (one.epoch, sign * (one.objective or 0.0)))
    kept = {one.id for one in best[-MAX_HISTORY // 2 :]} | {one.id for one in newest}
    return [one for one in trials if one.id in kept]


def _compared_level(history: History, hparams: int) -> tuple[int, int] | None:
    """The furthest rung at which there are values enough to learn from."""
    enough = [level for level, rung in history.rungs.items() if len(rung.values) >= hparams + 4]
    return max(enough, default=None)


def _frozen(
    space: Space, history: History, trial: Trial, at_level: float | None, several: bool
) -> FrozenTrial:
    searched = (one for one in space.hparams if one.kind != "fixed")
    hparams = {one.name: one for one in searched if one.name in trial.hparams}
    state, value, steps = STATES[trial.status], None, {}
    if at_level is not None:
        state, value = TrialState.COMPLETE, at_level
    elif state is TrialState.COMPLETE:
        value = trial.final_objective
    elif trial.objective is not None:
        rung = _last_rung(history, trial) if several else None
        place = trial.objective if rung is None else rung
        steps = {trial.epoch * 1000 // max(1, trial.folds) if several else trial.epoch: place}
    return create_trial(
        state=state,
        value=value,
        params={name: trial.hparams[name] for name in hparams},
        distributions={
            name: distribution_of(hyperparameter) for name, hyperparameter in hparams.items()
        },
        intermediate_values=steps,
    )


def _last_rung(history: History, trial: Trial) -> float | None:
    """The share of the trials at the last rung of `trial` that it is not worse than."""
    for report in reversed(trial.reports):
        if report["rung"]:
            values = np.array(list(history.rungs[trial.folds, report["epoch"]].values.values()))
            return float((values <= report["objective"]).mean())
    return None
