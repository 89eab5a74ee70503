"""A trial's configuration for tests, and a recorder of everything its training reports."""

import dataclasses
from collections.abc import Callable
from typing import Any

from raysearch.training.checkpoint import pack
from raysearch.training.fold_training import Judged, State
from raysearch.training.loop import FoldEpoch
from raysearch.training.train_config import TrainConfig

HPARAMS = {"width": 4, "convolutions": 1, "batch_size": 32, "learning_rate": 5e-3}


class Recorder:
    def __init__(self, stop_after: int = 10**9) -> None:
        self.reports: list[FoldEpoch] = []
        self.judged: list[Judged] = []
        self.states: list[bytes] = []
        self._stop_after = stop_after

    def __call__(self, done: FoldEpoch, judged: Judged, state: Callable[[], State]) -> None:
        self.reports.append(done)
        self.judged.append(judged)
        self.states.append(pack(state()))
        if len(self.reports) == self._stop_after:
            raise InterruptedError

    def numbers(self) -> list[dict[str, Any]]:
        return [{**dataclasses.asdict(one), "seconds": 0} for one in self.reports]


def config(**hparams: Any) -> TrainConfig:
    return TrainConfig({**HPARAMS, **hparams}, epochs=2, metric="auroc", seed=5)
