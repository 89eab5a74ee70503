"""Which trials explore the categorical choices."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from raysearch.config.space import Hyperparameter, Space, Stopping
from raysearch.search.journal.history import History, Trial
from raysearch.search.scheduling.exploration import ExplorationTrials
from support.result_studies import fold_report

EPOCHS = 6
HPARAMS = (
    Hyperparameter("schedule", "choice", ("constant", "one_cycle")),
    Hyperparameter("optimizer", "choice", ("adamw", "sgd")),
    Hyperparameter("folds", "choice", (2, 3)),
)
SPACE = Space(HPARAMS, "auroc", "max", EPOCHS, 100, 0, Stopping(1, 3, "forest"))


class PausedTrials(History):
    """A history of trials that are paused after one epoch, with these schedules."""

    def __init__(self, *schedules: str) -> None:
        super().__init__()
        self.all_trials = [
            Trial(
                f"t{number:04d}",
                "trial",
                {"schedule": schedule, "optimizer": "adamw", "folds": 3},
                number,
                3,
            )
            for number, schedule in enumerate(schedules)
        ]
        for number, trial in enumerate(self.all_trials):
            self.report(trial, 1, number / 100)
            trial.status = "paused"

    def report(self, trial: Trial, epoch: int, value: float) -> None:
        trial.reports.append(fold_report(trial.id, epoch, value))
        self.at_rungs.append((trial, epoch, value))

    def searched(self) -> list[Trial]:
        return self.all_trials

    def running(self) -> list[Trial]:
        return [trial for trial in self.all_trials if trial.status == "running"]

    def paused(self) -> list[Trial]:
        return [trial for trial in self.all_trials if trial.status == "paused"]


def test_the_best_trial_of_a_choice_continues_until_one_has_ended_a_fold() -> None:
    history = PausedTrials(*["constant"] * 9, *["one_cycle"] * 3)
    exploration = ExplorationTrials(SPACE)
    best_constant, best_one_cycle = history.all_trials[8], history.all_trials[-1]
    assert exploration.next(history, history.paused()) is best_constant
    best_constant.status = "running"
    assert exploration.next(history, history.paused()) is best_one_cycle
    best_one_cycle.status = "running"
    assert exploration.next(history, history.paused()) is None
    for epoch in range(2, EPOCHS + 1):
        history.report(best_constant, epoch, 0.5)
    best_constant.status = "paused"
    assert exploration.next(history, history.paused()) is None
    history.report(best_one_cycle, 2, 0.3)
    best_one_cycle.status = "stopped"  # beyond the grace period, so it counts as explored
    assert exploration.next(history, history.paused()) is None


def test_a_choice_with_too_few_trials_is_not_explored() -> None:
    history = PausedTrials(*["constant"] * 2, *["one_cycle"] * 2)
    for trial in history.all_trials[:2]:
        trial.hparams = {**trial.hparams, "optimizer": "sgd"}
    assert ExplorationTrials(SPACE).next(history, history.paused()) is None


def test_at_most_a_quarter_of_the_trials_explore() -> None:
    hparams = (Hyperparameter("width", "choice", (1, 2, 3)),)
    space = Space(hparams, "auroc", "max", EPOCHS, 100, 0, Stopping(1, 3, "forest"))
    history, exploration = PausedTrials(*["constant"] * 9), ExplorationTrials(space)
    for number, trial in enumerate(history.all_trials):
        trial.hparams = {**trial.hparams, "width": number % 3 + 1}
    for _ in range(3):
        trial_to_explore = exploration.next(history, history.paused())
        assert trial_to_explore is not None
        trial_to_explore.status = "running"
    assert exploration.next(history, history.paused()) is None


def test_of_trials_with_different_epochs_the_one_with_the_largest_fraction_continues() -> None:
    epochs = Hyperparameter("epochs", "choice", (2, 20))
    space = replace(SPACE, hparams=(*HPARAMS, epochs), epochs=20)
    history = PausedTrials(*["constant"] * 9)
    for number, trial in enumerate(history.all_trials):
        trial.hparams = {**trial.hparams, "epochs": 2 if number == 4 else 20}
    history.report(history.all_trials[6], 2, 0.9)
    selected = ExplorationTrials(space).next(history, history.paused())
    assert selected is history.all_trials[4]


def test_the_selected_trial_does_not_depend_on_the_hash_seed() -> None:
    script = (
        "from test_exploration import *\n"
        "history = PausedTrials(*['constant'] * 5, *['one_cycle'] * 5)\n"
        "for trial in history.all_trials[::2]:\n"
        "    trial.hparams = {**trial.hparams, 'optimizer': 'sgd'}\n"
        "print(ExplorationTrials(SPACE).next(history, history.paused()).id)\n"
    )
    tests = Path(__file__).parents[2]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
            env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(tests)},
        ).stdout
        for seed in range(4)
    }
    assert outputs == {"t0004\n"}
