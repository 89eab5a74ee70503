"""Trains the best trial of each categorical choice to the end of its first fold.

A `one_cycle` schedule or a slow optimizer may be behind after few epochs and ahead at the end. A
model of learning curves that has seen no such training to its end would leave them all paused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from raysearch.config.hyperparameter_spec import Value
from raysearch.config.report_interval import report_interval, trial_epochs
from raysearch.config.space import Space
from raysearch.metrics.objective import objective_sign
from raysearch.search.journal.history import History, Trial, training_progress

Choice = tuple[str, Value]
# So many trials with a choice reach a rung before the best of them is explored.
MIN_COMPARED_TRIALS = 3
# Exploration stops when this fraction of all trials has trained its first fold or is doing so.
MAX_FRACTION = 1 / 4


class ExplorationTrials:
    """Selects, for each categorical choice, the best trial until one has ended its first fold.

    The number of folds does not count as a choice. A trial that stopped or failed beyond the grace
    period counts as explored.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._sign = objective_sign(space.mode)
        self._choices: list[Choice] = [
            (hyperparameter.name, value)
            for hyperparameter in space.hparams
            if hyperparameter.kind == "choice" and hyperparameter.name != "folds"
            for value in hyperparameter.values
        ]
        self._num_reports = 0
        self._compared: set[str] = set()
        self._num_compared: Counter[Choice] = Counter()
        # The compared trials in their first fold.
        self._in_first_fold: dict[str, Trial] = {}
        self._num_explored = 0
        self._explored: set[Choice] = set()

    def next(self, history: History, waiting: Sequence[Trial]) -> Trial | None:
        """The trial among `waiting` that continues its first fold; None for none."""
        self._update(history)
        waiting_ids = {trial.id for trial in waiting}
        exploring = [
            trial
            for trial in history.running()
            if trial.id in self._in_first_fold and trial.id not in waiting_ids
        ]
        if self._num_explored + len(exploring) >= MAX_FRACTION * len(history.searched()):
            return None
        for choice in self._choices:
            if self._num_compared[choice] < MIN_COMPARED_TRIALS or choice in self._explored:
                continue
            if any(_has(trial, choice) for trial in exploring):
                continue
            candidates = [trial for trial in waiting if _has(trial, choice)]
            if candidates:
                return max(candidates, key=self._progress)
        return None

    def _progress(self, trial: Trial) -> tuple[float, float]:
        return training_progress(self._space, trial), self._sign * (trial.objective or 0.0)

    def _update(self, history: History) -> None:
        for trial, _epoch, _value in history.at_rungs[self._num_reports :]:
            if trial.id not in self._compared:
                self._compared.add(trial.id)
                self._in_first_fold[trial.id] = trial
                self._num_compared.update(choice for choice in self._choices if _has(trial, choice))
        self._num_reports = len(history.at_rungs)
        for trial in [*self._in_first_fold.values()]:
            epochs = trial_epochs(self._space, trial.hparams)
            fold_ended = trial.epoch >= epochs
            if fold_ended or trial.status not in ("running", "paused"):
                del self._in_first_fold[trial.id]
                if fold_ended or trial.epoch > self._space.stopping.grace_period:
                    # A frozen network ends its first fold before it is compared.
                    is_frozen = report_interval(trial.hparams, epochs) > 1
                    self._num_explored += not is_frozen
                    self._explored.update(choice for choice in self._choices if _has(trial, choice))


def _has(trial: Trial, choice: Choice) -> bool:
    name, value = choice
    return trial.hparams.get(name) == value
