"""What a small budget of fold-epochs finds over noisy folds, against random search.

    LCBENCH=... .venv/bin/python benchmarks/replay/budgets.py --tasks 3945 --seeds 3

Studies over 3 folds, as of a net on few patients: a training has 6 epochs (of the 52 of a replayed
curve, every 8.7 one), and the budget is so many whole trainings of all folds. Random search trains
each of its trials to the end. Both have 2 workers. A study's regret is that of its champion's true
accuracy after all epochs, without noise.

The noise is that of folds.py, or by `--noise high` what a small net on 120 patients of IDC showed
(5 random trainings, by eye): .5 of the spread a fold, .3 a configuration on a fold, .4 an epoch; by
`--noise idc` what 23 such nets on 173 patients did: 1.2, .25 and .3.

With `--schedules` there are two of them to choose from, which the replayed curves have not: one of
them is behind after each epoch by what `one_cycle` was behind a constant learning rate in these 23,
and ahead in the end by .15 of the spread.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))

from raysearch.config.samplers import RandomSampler
from raysearch.config.space import Hyperparameter, Space
from raysearch.config.space_file import MIN_GRACE_PERIOD
from raysearch.errors import UserError
from raysearch.training.seeds import key
from replay.clock import Config, Curve, simulate
from replay.curves import curves_of, lcbench, tasks_known
from replay.folds import Folds, Noise
from replay.raysearch_method import Budgeted, space
from replay.reference import reference
from replay.run import listed, reject_unknown

FOLDS, EPOCHS, WORKERS = 3, 6, 2
NOISES = {"low": Noise(), "high": Noise(0.5, 0.3, 0.4), "idc": Noise(1.2, 0.25, 0.3)}
SCHEDULES = Hyperparameter("schedule", "choice", ("constant", "one_cycle"))
# Fractions of the spread.
BEHIND, AHEAD = (2.3, 0.7, 0.5, 0.3, 0.1, 0.0), 0.15
OURS, PEER = "raysearch", "random"


class Scheduled(Folds):
    """Noisy folds by one of two schedules: that called `one_cycle` is behind at first."""

    def __init__(self, curve: Curve, noise: Noise, seed: int, spread: float) -> None:
        def of_others(config: Config) -> tuple[np.ndarray, np.ndarray]:
            return curve({name: config[name] for name in config if name != SCHEDULES.name})

        super().__init__(of_others, noise, seed, FOLDS, EPOCHS)
        self._spread = spread

    def truth(self, config: Config) -> float:
        return super().truth(config) + self._ahead(config)

    def noisy(self, config: Config) -> np.ndarray:
        ahead = self._ahead(config)
        behind = self._spread * np.array(BEHIND) if ahead else 0.0
        return super().noisy(config) + ahead - behind

    def _ahead(self, config: Config) -> float:
        return AHEAD * self._spread if config.get(SCHEDULES.name) == "one_cycle" else 0.0


class Study(Budgeted):
    """A study with a budget of `num_trainings` full trainings, by default or by random search."""

    def __init__(self, searched: Space, name: str, num_trainings: int, grace_period: int) -> None:
        stopping = replace(searched.stopping, grace_period=grace_period)
        searched = replace(searched, epochs=EPOCHS, stopping=stopping)
        if name == PEER:
            stopping = replace(stopping, rule="none")
            searched = replace(searched, sampler=RandomSampler(), stopping=stopping)
        super().__init__(searched, FOLDS, num_trainings * FOLDS * EPOCHS)

    @property
    def counts(self) -> tuple[int, int]:
        """The number of finished trials, and that of all."""
        return len(self._policy.history.done()), len(self._policy.history.searched())


def outcome(name: str, task: str, seed: int, args: argparse.Namespace) -> list[float]:
    """The regret of the champion, the number of finished trials, and that of all."""
    task_reference = reference(task)
    spread = task_reference.oracle - task_reference.median
    searched = space(lcbench().SPACE, seed)
    if args.schedules:
        searched = replace(searched, hparams=(*searched.hparams, SCHEDULES))
    noise = NOISES[args.noise].times(spread)
    replayed = Scheduled(curves_of(task), noise, key(task, seed), spread)
    study = Study(searched, name, args.trainings, args.grace)
    simulate(study, replayed.one_by_one, WORKERS, math.inf)
    return [task_reference.regret(replayed.truth(study.champion)), *study.counts]


def arguments() -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(description="Small budgets over noisy folds, replayed.")
    parser.add_argument("--tasks", type=listed, help="OpenML tasks; without it lcbench's TASKS")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trainings", type=int, default=6, help="the budget, in full trainings")
    parser.add_argument("--grace", type=int, default=MIN_GRACE_PERIOD, help=f"of {EPOCHS} epochs")
    parser.add_argument("--noise", choices=list(NOISES), default="low")
    parser.add_argument("--schedules", action="store_true", help="one of two is behind at first")
    args = parser.parse_args()
    args.tasks = args.tasks or list(lcbench().TASKS)
    reject_unknown("--tasks", args.tasks, tasks_known())
    for name, maximum in (("seeds", math.inf), ("trainings", math.inf), ("grace", EPOCHS)):
        if not 1 <= getattr(args, name) <= maximum:
            raise UserError(f"--{name} {getattr(args, name)}: must be 1 to {maximum:g}")
    return args


def measure(name: str, tasks: Sequence[str], args: argparse.Namespace) -> float:
    """The mean regret of all studies by `name`; prints it with their numbers of trials."""
    outcomes = np.array(
        [outcome(name, task, seed, args) for task in tasks for seed in range(args.seeds)]
    )
    regret, num_finished, num_trials = outcomes.mean(axis=0)
    sys.stderr.write(
        f"{name}: regret {regret:.3f}, {num_finished:.1f} of {num_trials:.1f} trials finished\n"
    )
    return float(regret)


def main() -> int:
    """Print the result; returns 2 if the command line is invalid."""
    try:
        args = arguments()
        regret, peer = (measure(name, args.tasks, args) for name in (OURS, PEER))
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    line = {
        "benchmark": "replay-budgets",
        "value": round(regret, 3),
        "unit": "mean regret",
        "peer": round(peer, 3),
        "ratio": round(peer / regret, 3),
        "goal": "> 1",
        "pass": regret < peer,
    }
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
