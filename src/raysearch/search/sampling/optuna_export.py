"""Exports a study as an Optuna journal file, for Optuna's tools such as `optuna-dashboard`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from raysearch.config.space import Space
from raysearch.data.file_access import locked_partial_file, remove_abandoned_files
from raysearch.errors import StudyError
from raysearch.metrics.objective import optimization_direction
from raysearch.search.journal.history import History, Trial
from raysearch.search.sampling.optuna_sampler import distribution_of

OptunaStudy = optuna.Study
Attribute = str | int | float | None
# The attribute of an Optuna study that says whose it is, and that of a trial with its name.
IDENTITY, TRIAL = "identity", "trial"
# Optuna has no state for a paused trial, so it counts as running.
STATES: Mapping[str, TrialState] = {
    "finished": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


@dataclass(frozen=True)
class ExportedStudy:
    """What is exported of a study.

    Args:
        name: Name of the study.
        space: Its search space.
        fingerprint: Hash of its shards.
        identity: Its identity, which no other study has, not even one of the same name.
        history: Its trials.
    """

    name: str
    space: Space
    fingerprint: str
    identity: str
    history: History


def export_study(exported: ExportedStudy, path: Path) -> int:
    """Write the searched trials to the new Optuna journal `path`, and return their number.

    Number, hyperparameters, state and times of a trial are the study's. Its intermediate values
    are the objective after each fold-epoch.

    Raises:
        StudyError: If `path` exists.
    """
    if path.exists():
        raise StudyError(f"{path}: the file exists; choose another name, or remove it")
    remove_abandoned_files(path.parent, path.name)
    partial, lock = locked_partial_file(path)
    try:
        optuna_study(exported, JournalStorage(JournalFileBackend(str(partial))))
        partial.rename(path)
    finally:
        lock.close()
        partial.unlink(missing_ok=True)
    return len(exported.history.searched())


def optuna_study(exported: ExportedStudy, storage: BaseStorage | None = None) -> optuna.Study:
    """Return the searched trials as a new study of Optuna.

    Args:
        exported: What is exported.
        storage: Where Optuna stores it; None for the memory.
    """
    space, trials = exported.space, exported.history.searched()
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(
            storage=storage,
            study_name=exported.name,
            direction=optimization_direction(space.mode),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([space.metric])
        for name, value in study_attributes(exported).items():
            study.set_user_attr(name, value)
        study.add_trials([optuna_trial(space, trial) for trial in trials])
    finally:
        optuna.logging.set_verbosity(verbosity)
    return study


def study_attributes(exported: ExportedStudy) -> dict[str, Attribute]:
    """Return the settings of the study, its champion, and the objectives of its baselines."""
    space, history = exported.space, exported.history
    attributes: dict[str, Attribute] = {
        "metric": space.metric,
        **({} if space.hyperparameter("epochs") else {"epochs": space.epochs}),
        "seed": space.seed,
        "data": exported.fingerprint,
        IDENTITY: exported.identity,
        "champion": history.champion,
    }
    baselines = (trial for trial in history.trials.values() if trial.kind != "trial")
    return attributes | {trial.id: trial.objective for trial in baselines}


def optuna_trial(space: Space, trial: Trial) -> FrozenTrial:
    """Return a searched trial as Optuna's."""
    state = STATES.get(trial.status, TrialState.RUNNING)
    has_ended = state is not TrialState.RUNNING
    distributions = {
        hyperparameter.name: distribution_of(hyperparameter)
        for hyperparameter in space.hparams
        if hyperparameter.kind != "fixed"
        and hyperparameter.name in trial.hparams
        and hyperparameter.contains(trial.hparams[hyperparameter.name])
    }
    return FrozenTrial(
        number=-1,  # the storage counts them
        trial_id=-1,
        state=state,
        value=trial.objective if state is TrialState.COMPLETE else None,
        datetime_start=datetime.fromtimestamp(trial.started),
        datetime_complete=datetime.fromtimestamp(trial.ended) if has_ended else None,
        params={name: trial.hparams[name] for name in distributions},
        distributions=distributions,
        user_attrs={
            **_trial_attributes(trial),
            **{k: value for k, value in trial.hparams.items() if k not in distributions},
        },
        system_attrs={},
        intermediate_values={
            report.epoch: report.objective
            for report in trial.reports
            if report.objective is not None
        },
    )


def _trial_attributes(trial: Trial) -> dict[str, Attribute]:
    return {
        TRIAL: trial.id,
        "state": trial.status,
        "reason": trial.reason,
        "seconds": trial.seconds,
        "trial_seed": trial.seed,
        **trial.costs.by_name(),
    }
