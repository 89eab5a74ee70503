"""A study as an Optuna journal file, for Optuna's own tools such as `optuna-dashboard`."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from raysearch.config.space import RANGES, Hyperparameter, Value
from raysearch.errors import StudyError
from raysearch.search.journal.history import History, Trial
from raysearch.search.journal.journal import Event, of_kind
from raysearch.search.sampling.sampler import distribution_of
from raysearch.search.study.plan import Plan

# A trial in any other state has not ended: Optuna calls that RUNNING.
STATES = {
    "finished": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


def export_study(plan: Plan, history: History, path: Path, events: Iterable[Event] = ()) -> int:
    """Write the searched trials to the new Optuna journal `path`; how many there are.

    A trial's number, hyperparameters, state and times are the study's; its intermediate values are the
    objective after each fold-epoch. The times at which trials ended are in the journal's `events`;
    without them they are those of the last reports. StudyError where `path` is taken.
    """
    if path.exists():
        raise StudyError(f"--optuna {path}: there already; name a file that is not, or remove it")
    ended = {event["trial"]: event["at"] for event in of_kind(list(events), "end")}
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(beside))),
            study_name=plan.name,
            direction="maximize" if plan.space.mode == "max" else "minimize",
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([plan.space.metric])
        for name, value in _facts(plan, history).items():
            study.set_user_attr(name, value)
        trials = history.searched()
        study.add_trials([_frozen(plan, trial, ended.get(trial.id)) for trial in trials])
        beside.rename(path)
    finally:
        beside.unlink(missing_ok=True)
        optuna.logging.set_verbosity(level)
    return len(trials)


def _facts(plan: Plan, history: History) -> dict[str, Any]:
    """What is known of the study as a whole, the baselines among it."""
    facts: dict[str, Any] = {
        "metric": plan.space.metric,
        "epochs": plan.space.epochs,
        "seed": plan.space.seed,
        "data": plan.fingerprint,
        "champion": history.champion,
    }
    baselines = (trial for trial in history.trials.values() if trial.kind != "trial")
    return facts | {trial.id: trial.objective for trial in baselines}


def _frozen(plan: Plan, trial: Trial, ended: float | None) -> FrozenTrial:
    state = STATES.get(trial.status, TrialState.RUNNING)
    searched = {
        hyperparameter.name: distribution_of(hyperparameter)
        for hyperparameter in plan.space.hparams
        if hyperparameter.kind != "fixed"
        and _holds(hyperparameter, trial.hparams.get(hyperparameter.name))
    }
    rest = {name: value for name, value in trial.hparams.items() if name not in searched}
    last = trial.reports[-1]["at"] if trial.reports else trial.started
    over = state is not TrialState.RUNNING
    return FrozenTrial(
        number=-1,  # the storage counts them
        trial_id=-1,
        state=state,
        value=trial.objective if state is TrialState.COMPLETE else None,
        datetime_start=datetime.fromtimestamp(trial.started),
        datetime_complete=datetime.fromtimestamp(ended or last) if over else None,
        params={name: trial.hparams[name] for name in searched},
        distributions=searched,
        user_attrs={**_attributes(trial), **rest},
        system_attrs={},
        intermediate_values={one["epoch"]: one["objective"] for one in trial.reports},
    )


def _attributes(trial: Trial) -> Mapping[str, Any]:
    return {
        "trial": trial.id,
        "state": trial.status,
        "reason": trial.reason,
        "seconds": trial.seconds,
        "trial_seed": trial.seed,
        **trial.costs,
    }


def _holds(hyperparameter: Hyperparameter, value: Value | None) -> bool:
    """Whether `value` is one that `hyperparameter` may take; one that the user asked for may be none."""
    if value is None or hyperparameter.kind not in RANGES:
        return value in hyperparameter.values
    low: Any
    high: Any
    low, high = hyperparameter.values
    return bool(low <= value <= high)
