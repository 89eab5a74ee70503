"""Trials that show what a value of a choice is worth in the end, where early epochs do not tell.

A `one_cycle` schedule or a slow optimizer is behind after few epochs and may be ahead after all of
them. A model of curves that never saw such a training end would leave all of them waiting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from raysearch.search.history import History, Trial
from raysearch.search.space import Space, Value

# So many trials have a value before its leader is sent.
FOLLOWERS = 3
# Of all trials so many have come to the end of the first fold when no more scouts are sent.
SHARE = 1 / 4


class Scouts:
    """The leader of each value of each choice, until one with that value has ended a first fold."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._choices = [
            knob for knob in space.knobs if knob.kind == "choice" and knob.name != "folds"
        ]
        self._sign = 1.0 if space.mode == "max" else -1.0
        # How much of the history is taken in: begun trials, reports at rungs, finished trials.
        self._begun, self._reports, self._done = 0, 0, 0
        self._alike: Counter[tuple[str, Value]] = Counter()
        self._whole: dict[str, Trial] = {}

    def next(self, history: History, waiting: Sequence[Trial]) -> Trial | None:
        """The one of `waiting` that is to go on with its first fold; None where none is."""
        self._take_in(history)
        waits = {one.id for one in waiting}
        under_way = [
            one
            for one in history.running()
            if one.kind == "trial"
            and self._space.stopping.grace <= one.epoch < self._space.epochs
            and one.id not in waits
        ]
        if len(self._whole) + len(under_way) >= SHARE * self._begun:
            return None
        shown = self._values([*self._whole.values(), *under_way])
        for choice, followers in self._alike.items():
            if followers < FOLLOWERS or choice in shown:
                continue
            able = [one for one in waiting if choice in self._values([one])]
            if able:
                return max(able, key=lambda one: (one.epoch, self._sign * (one.objective or 0.0)))
        return None

    def _values(self, trials: Iterable[Trial]) -> set[tuple[str, Value]]:
        """The values that `trials` have of the choices."""
        return {
            (knob.name, one.knobs[knob.name])
            for one in trials
            for knob in self._choices
            if knob.name in one.knobs
        }

    def _take_in(self, history: History) -> None:
        for trial in history.searched()[self._begun :]:
            self._alike.update(self._values([trial]))
        for trial, epoch, _value in history.at_rungs[self._reports :]:
            if epoch >= self._space.epochs:
                self._whole[trial.id] = trial
        for trial in history.done()[self._done :]:
            self._whole[trial.id] = trial
        self._begun = len(history.searched())
        self._reports, self._done = len(history.at_rungs), len(history.done())
