"""A simulated clock with workers: a whole study in a second or two, nothing trained."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Config = Mapping[str, Any]
# A configuration -> cumulative seconds and value after each epoch, two arrays of one length.
Curve = Callable[[Config], tuple[np.ndarray, np.ndarray]]
# (when, value) each time that a report was better than all before it.
Trajectory = list[tuple[float, float]]


@dataclass(frozen=True)
class Work:
    """What a worker is to train: the trial `trial` with `config`, from epoch `done` on."""

    trial: str
    config: Config
    done: int


class Method(Protocol):
    """A search: what a free worker trains next, and whether a trial trains on."""

    def next(self) -> Work | None:
        """The next work; None to be asked again when the next event has happened."""

    def report(self, trial: str, epoch: int, value: float, seconds: float) -> bool:
        """Take in the value after `epoch` epochs, the last of which took `seconds`.

        True to train on; False when the worker is to be freed, because the trial is stopped,
        paused or finished. After the last epoch the worker is freed whatever the answer.
        """


def simulate(method: Method, curve: Curve, workers: int, end_s: float) -> Trajectory:
    """Run `method` until `end_s`; a report counts when its epoch is over by then.

    Events come in the order of time, and those of one moment by the worker's number. After each,
    free workers are given work, the lowest number first. A trial that was paused comes again with
    `done` > 0 and pays only for the epochs after that.
    """
    free = list(range(workers))
    events: list[tuple[float, int]] = []
    works: dict[int, tuple[Work, int]] = {}
    trained: dict[str, int] = {}
    found: Trajectory = []
    now = 0.0
    while True:
        while free and (work := method.next()) is not None:
            _check(work, trained, {one.trial for one, _done in works.values()})
            worker = heapq.heappop(free)
            works[worker] = work, work.done
            heapq.heappush(events, (now + _cost(curve, work, work.done), worker))
        if not events or events[0][0] > end_s:
            return found
        now, worker = heapq.heappop(events)
        work, done = works.pop(worker)
        trained[work.trial] = epoch = done + 1
        values = curve(work.config)[1]
        value = float(values[done])
        if not found or value > found[-1][1]:
            found.append((now, value))
        is_promotable = method.report(work.trial, epoch, value, _cost(curve, work, done))
        if is_promotable and epoch < len(values):
            works[worker] = work, epoch
            heapq.heappush(events, (now + _cost(curve, work, epoch), worker))
        else:
            heapq.heappush(free, worker)


def incumbent(found: Trajectory, at_s: float) -> float:
    """The best value reported by `at_s`; minus infinity before the first report."""
    count = bisect_right([when for when, _value in found], at_s)
    return found[count - 1][1] if count else -math.inf


def _cost(curve: Curve, work: Work, done: int) -> float:
    """Seconds of the epoch after the first `done`."""
    seconds = curve(work.config)[0]
    return float(seconds[done] - (seconds[done - 1] if done else 0.0))


def _check(work: Work, trained: Mapping[str, int], running: Collection[str]) -> None:
    before = trained.get(work.trial, 0)
    if work.trial in running:
        raise ValueError(f"{work.trial} is given to a second worker while it trains")
    if not 0 <= work.done <= before:
        raise ValueError(f"{work.trial} asks to go on at epoch {work.done}; it trained {before}")
