"""How good a search is if its trials cost 2 seconds or 10 minutes, on replayed learning curves.

    LCBENCH=... .venv/bin/python benchmarks/replay/mixed_costs.py --tasks 167083,167161 --seeds 2

Each configuration has the hyperparameter `adaptation`. With `full`, its learning curve is that of
the task, and takes 600 s in the mean. With `frozen`, it is the end of the curve of another task,
reported once after 2 s in the mean; its regret is 0.3 + 0.4 times the one there, so that heads
reach less, and are better than most fine-tunings. Budgets are in mean seconds of full fine-tunings,
on 4 workers. `raysearch` chooses by seconds; the peer is the same search, which counts epochs.
Prints a JSON line a method and budget, and the line of the benchmark: the mean over budgets.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).parents[1]))

from raysearch.config.space import Budget, Hyperparameter, Space
from replay.clock import Config, Trajectory, Work, incumbent, simulate
from replay.curves import EPOCHS, curves_of, lcbench
from replay.methods import WORKERS
from replay.raysearch_method import Raysearch, space
from replay.reference import reference
from replay.run import budget, listed

HEAD_S, FINE_TUNING_S = 2.0, 600.0
HEAD_REGRET, HEAD_SCALE = 0.3, 0.4
UNLIMITED = 10**9
GOAL = 0.7
BUDGETS = ("2", "4", "8")
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


class MixedCurves:
    """Cumulative seconds and negative regrets of configurations.

    Args:
        task: The task of the fine-tunings.
        head_task: The task of the heads.
    """

    def __init__(self, task: str, head_task: str) -> None:
        self._task, self._head_task = task, head_task

    def __call__(self, config: Config) -> Curve:
        """Return the curve of a configuration: 52 points, or 1 of a head."""
        is_head = config["adaptation"] == "frozen"
        task = self._head_task if is_head else self._task
        seconds, accuracy = curves_of(task)(config)
        of_task = reference(task)
        regret = (of_task.oracle - np.asarray(accuracy, float)) / (of_task.oracle - of_task.median)
        seconds = np.asarray(seconds, float) / of_task.full_s
        if is_head:
            return seconds[-1:] * HEAD_S, -(HEAD_REGRET + HEAD_SCALE * regret[-1:])
        return seconds * FINE_TUNING_S, -regret


def mixed_space(seed: int, fold_epochs: int | None) -> Space:
    """Return the space: the hyperparameters of lcbench, and the adaptation."""
    searched = space(lcbench().SPACE, seed)
    adaptation = Hyperparameter("adaptation", "choice", ("frozen", "full"))
    hparams = (adaptation, *searched.hparams)
    return replace(searched, hparams=hparams, budget=Budget(fold_epochs=fold_epochs))


class MixedSearch(Raysearch):
    """A search whose heads report once."""

    def next(self) -> Work | None:
        """Return the next work."""
        work = super().next()
        return work and (replace(work, done=0) if _is_head(work.config) else work)

    def report(self, trial: str, epoch: int, value: float, seconds: float) -> bool:
        """Report an epoch, or the end of a head."""
        hparams = self.history.trials[trial].hparams
        return super().report(trial, EPOCHS if _is_head(hparams) else epoch, value, seconds)


def _is_head(config: Config) -> bool:
    return bool(config["adaptation"] == "frozen")


METHODS: dict[str, int | None] = {"raysearch": None, "counts-epochs": UNLIMITED}


def run(method: str, task: str, head_task: str, seed: int, end_s: float) -> Trajectory:
    """Return the incumbents of one search."""
    search = MixedSearch(mixed_space(seed, METHODS[method]))
    return simulate(search, MixedCurves(task, head_task), WORKERS, end_s)


def regrets(method: str, args: argparse.Namespace) -> Iterator[list[float]]:
    """Yield the regrets of each task and seed at each budget."""
    for number, task in enumerate(args.tasks):
        head_task = args.tasks[(number + 1) % len(args.tasks)]
        for seed in range(args.seeds):
            ends = [value * FINE_TUNING_S for value in args.budgets]
            incumbents = run(method, task, head_task, seed, max(ends))
            yield [-incumbent(incumbents, end_s) for end_s in ends]
            sys.stderr.write(f"{method}, task {task}, seed {seed}\n")


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Searches over trials of different costs.")
    parser.add_argument("--tasks", type=listed, help="two or more; without it lcbench's TASKS")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--budgets", type=listed, default=list(BUDGETS))
    args = parser.parse_args()
    args.tasks = args.tasks or list(lcbench().TASKS)
    args.budgets = [budget(text) for text in args.budgets]
    return args


def main() -> int:
    """Print the rows."""
    args, means = arguments(), {}
    for method in METHODS:
        table = np.array(list(regrets(method, args)))
        means[method] = float(table.mean())
        for column, value in enumerate(args.budgets):
            mean = float(table[:, column].mean())
            row = {"method": method, "budget": value, "mean_regret": mean}
            sys.stdout.write(json.dumps({**row, "tasks": len(args.tasks), "seeds": args.seeds}))
            sys.stdout.write("\n")
            sys.stdout.flush()
    ratio = means["raysearch"] / means["counts-epochs"]
    line = {"benchmark": "mixed_costs", "value": means["raysearch"], "unit": "mean regret"}
    line |= {"peer": means["counts-epochs"], "ratio": ratio, "goal": GOAL, "pass": ratio <= GOAL}
    sys.stdout.write(f"{json.dumps(line)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
