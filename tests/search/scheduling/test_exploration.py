"""Which trials are sent to show where a choice's values end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from raysearch.config.space import Hyperparameter, Space, Stopping
from raysearch.search.journal.history import Trial
from raysearch.search.scheduling.exploration import ExplorationTrials
from support.result_studies import report

EPOCHS = 6
HPARAMS = (
    Hyperparameter("schedule", "choice", ("constant", "one_cycle")),
    Hyperparameter("optimizer", "choice", ("adamw", "sgd")),
    Hyperparameter("folds", "choice", (2, 3)),
)
SPACE = Space(HPARAMS, "auroc", "max", EPOCHS, 100, 0, Stopping(1, 3, "forest"))


class Known:
    """A history of trials that wait after one epoch."""

    def __init__(self, *schedules: str) -> None:
        self.trials = [
            Trial(f"t{n:04d}", "trial", {"schedule": one, "optimizer": "adamw", "folds": 3}, n, 3)
            for n, one in enumerate(schedules)
        ]
        self.at_rungs: list[tuple[Trial, int, float]] = []
        for number, trial in enumerate(self.trials):
            self.came(trial, 1, number / 100)
            trial.status = "paused"

    def came(self, trial: Trial, epoch: int, value: float) -> None:
        trial.reports.append(report(epoch, value))
        self.at_rungs.append((trial, epoch, value))

    @property
    def history(self) -> Any:
        running = [one for one in self.trials if one.status == "running"]
        return SimpleNamespace(
            at_rungs=self.at_rungs, running=lambda: running, searched=lambda: self.trials
        )

    @property
    def waiting(self) -> list[Trial]:
        return [one for one in self.trials if one.status == "paused"]


def test_the_leader_of_a_value_goes_until_it_or_another_has_ended_a_fold() -> None:
    known, scouts = Known(*["constant"] * 9, *["one_cycle"] * 3), ExplorationTrials(SPACE)
    leader = known.trials[8]
    assert scouts.next(known.history, known.waiting) is leader
    leader.status = "running"
    other = known.trials[-1]  # of the other schedule
    assert scouts.next(known.history, known.waiting) is other
    other.status = "running"
    assert scouts.next(known.history, known.waiting) is None  # both are on their way
    for epoch in range(2, EPOCHS + 1):
        known.came(leader, epoch, 0.5)
    leader.status = "paused"
    assert scouts.next(known.history, known.waiting) is None
    known.came(other, 2, 0.3)
    other.status = "stopped"  # it has shown what it could
    assert scouts.next(known.history, known.waiting) is None


def test_too_few_to_compare_send_nobody() -> None:
    known = Known(*["constant"] * 2, *["one_cycle"] * 2)
    for trial in known.trials[:2]:
        trial.hparams = {**trial.hparams, "optimizer": "sgd"}
    assert ExplorationTrials(SPACE).next(known.history, known.waiting) is None


def test_scouts_are_a_quarter_of_the_trials_at_most() -> None:
    hparams = (Hyperparameter("width", "choice", (1, 2, 3)),)
    space = Space(hparams, "auroc", "max", EPOCHS, 100, 0, Stopping(1, 3, "forest"))
    known, scouts = Known(*["constant"] * 9), ExplorationTrials(space)
    for number, trial in enumerate(known.trials):
        trial.hparams = {**trial.hparams, "width": number % 3 + 1}
    for _ in range(3):
        sent = scouts.next(known.history, known.waiting)
        assert sent is not None
        sent.status = "running"
    assert scouts.next(known.history, known.waiting) is None


def test_who_is_sent_hangs_on_no_hash_seed() -> None:
    script = (
        "from test_exploration import *; known = Known(*['constant'] * 5, *['one_cycle'] * 5);"
        "[setattr(one, 'hyperparameters', {**one.hyperparameters, 'optimizer': 'sgd'}) for one in known.trials[::2]];"
        "print(Scouts(SPACE).next(known.history, known.waiting).id)"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in range(4)
    }
    assert told == {"t0004\n"}
