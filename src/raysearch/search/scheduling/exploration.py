"""Trials that show what a value of a choice is worth in the end, where early epochs do not tell.

A `one_cycle` schedule or a slow optimizer is behind after few epochs and may be ahead after all of
them. A model of curves that never saw such a training end would leave all of them waiting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from raysearch.config.space import Space, Value
from raysearch.search.journal.history import History, Trial

Choice = tuple[str, Value]
# So many trials with a value have been compared before the best of them is sent.
FOLLOWERS = 3
# Of all trials so many have gone to the end of the first fold, or are on their way there, when no
# more scouts are sent.
FRACTION = 1 / 4


class ExplorationTrials:
    """The leader of each value of each choice, until one with that value has ended a first fold.

    The number of folds is no such choice. A trial that was stopped or failed on its way has shown
    what it could.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._sign = 1.0 if space.mode == "max" else -1.0
        self._choices: list[Choice] = [
            (hyperparameter.name, value)
            for hyperparameter in space.hparams
            if hyperparameter.kind == "choice" and hyperparameter.name != "folds"
            for value in hyperparameter.values
        ]
        self._reports = 0
        self._begun: set[str] = set()
        self._followers: Counter[Choice] = Counter()
        # Those that were compared, and whose first fold is open.
        self._open: dict[str, Trial] = {}
        self._gone, self._shown = 0, set[Choice]()

    def next(self, history: History, waiting: Sequence[Trial]) -> Trial | None:
        """The one of `waiting` that is to go on with its first fold; None where none is."""
        self._take_in(history)
        waits = {one.id for one in waiting}
        under_way = [
            one for one in history.running() if one.id in self._open and one.id not in waits
        ]
        if self._gone + len(under_way) >= FRACTION * len(history.searched()):
            return None
        for choice in self._choices:
            if self._followers[choice] < FOLLOWERS or choice in self._shown:
                continue
            if any(_has(one, choice) for one in under_way):
                continue
            able = [one for one in waiting if _has(one, choice)]
            if able:
                return max(able, key=lambda one: (one.epoch, self._sign * (one.objective or 0.0)))
        return None

    def _take_in(self, history: History) -> None:
        for trial, _epoch, _value in history.at_rungs[self._reports :]:
            if trial.id not in self._begun:
                self._begun.add(trial.id)
                self._open[trial.id] = trial
                self._followers.update(one for one in self._choices if _has(trial, one))
        self._reports = len(history.at_rungs)
        for trial in [*self._open.values()]:
            whole = trial.epoch >= self._space.epochs
            if whole or trial.status not in ("running", "paused"):
                del self._open[trial.id]
                if whole or trial.epoch > self._space.stopping.grace:
                    self._gone += 1
                    self._shown.update(one for one in self._choices if _has(trial, one))


def _has(trial: Trial, choice: Choice) -> bool:
    name, value = choice
    return trial.hparams.get(name) == value
