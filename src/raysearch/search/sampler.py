"""Optuna's proposals, and what Optuna is told of how they went."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import TrialState

from raysearch.search.history import Status, Trial
from raysearch.search.space import Space, Value
from raysearch.training.loop import key

STATES: dict[Status, TrialState] = {
    "finished": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


class Sampler:
    """Proposes the knobs of each next trial of a study.

    Each proposal draws from a sampler seeded by (seed, number of the trial), so that a sampler
    made anew from the study's journal proposes what an uninterrupted one would.
    """

    def __init__(self, space: Space, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", ExperimentalWarning)  # grouping conditional knobs
        self._space, self._seed = space, seed
        direction: Literal["maximize", "minimize"]
        direction = "maximize" if space.mode == "max" else "minimize"
        self._study = optuna.create_study(direction=direction)
        self._asked: dict[str, optuna.Trial] = {}

    def propose(self, trial: str) -> dict[str, Value]:
        """The knobs of the new trial `trial`, by the outcomes told so far."""
        number = len(self._study.get_trials(deepcopy=False))
        self._study.sampler = TPESampler(
            seed=key(self._seed, "sampler", number) % 2**32,
            multivariate=True,
            group=True,
        )
        return self._ask(trial)

    def recall(self, trial: Trial) -> None:
        """Take in a trial from the journal as if it had been proposed and told here."""
        self._study.sampler = RandomSampler(seed=0)
        self._study.enqueue_trial(dict(trial.knobs))
        self._ask(trial.id)
        for report in trial.reports:
            self.report(trial.id, report["epoch"], report["objective"])
        if trial.status != "running":
            self.end(trial.id, trial.status)

    def report(self, trial: str, epoch: int, objective: float) -> None:
        """Tell the objective of `trial` after `epoch` fold-epochs."""
        self._asked[trial].report(objective, epoch)

    def end(self, trial: str, status: Status) -> None:
        """Tell how `trial` ended: only a finished one has a value that is compared as whole."""
        asked = self._asked.pop(trial)
        value = None
        if status == "finished":
            steps = self._study.get_trials(deepcopy=False)[asked.number].intermediate_values
            value = steps[max(steps)]
        self._study.tell(asked, value, state=STATES[status])

    def outcomes(self) -> list[tuple[str, dict[str, Any]]]:
        """What Optuna holds: the state and the parameters of each trial, in order."""
        return [(one.state.name, one.params) for one in self._study.get_trials()]

    def _ask(self, trial: str) -> dict[str, Value]:
        asked = self._asked[trial] = self._study.ask()
        chosen: dict[str, Value] = {}
        for knob in self._space.knobs:
            if not knob.active(chosen):
                continue
            low_high: Any = knob.values
            match knob.kind:
                case "fixed":
                    chosen[knob.name] = knob.values[0]
                case "choice":
                    chosen[knob.name] = asked.suggest_categorical(knob.name, list(low_high))
                case "int" | "logint":
                    log = knob.kind == "logint"
                    chosen[knob.name] = asked.suggest_int(knob.name, *low_high, log=log)
                case "uniform" | "loguniform":
                    log = knob.kind == "loguniform"
                    chosen[knob.name] = asked.suggest_float(knob.name, *low_high, log=log)
        return chosen
