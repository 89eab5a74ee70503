"""How good the best trial is that a search finds, on replayed real learning curves.

    LCBENCH=... .venv/bin/python benchmarks/replay/run.py \
        --tasks 3945,7593 --seeds 2 --budgets 2,4

LCBENCH is the folder of lcbench.py: a surrogate of real trainings (52 epochs, 7 hyperparameters),
by which nothing is trained and a study of four workers takes seconds. One JSON line a method and
budget goes to stdout, progress to stderr.

A budget of b is the mean time of b full trainings, on a simulated clock; the regret is (oracle -
incumbent) / (oracle - median), the incumbent being the best accuracy reported by then. See
reference.py for the oracle and the median, peers/ for what the search is compared with.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))

from raysearch.errors import UserError
from replay.clock import incumbent
from replay.curves import lcbench, tasks_known
from replay.methods import METHODS, trajectory
from replay.reference import reference

REPLICATES, BOOTSTRAP_SEED = 10_000, 0
Spread = Callable[..., Iterator[Any]]
# Method, task, seed and budgets.
Run = tuple[str, str, int, Sequence[float]]


def regrets(run: Run) -> list[float]:
    """The regret of one run at each budget."""
    name, task, seed, budgets = run
    task_reference, start = reference(task), time.perf_counter()
    run_trajectory = trajectory(name, task, seed, max(budgets) * task_reference.full_s)
    values = [incumbent(run_trajectory, budget * task_reference.full_s) for budget in budgets]
    if not np.isfinite(values).all():
        raise UserError(
            f"--budgets {min(budgets):g}: {name} has trained no epoch by then; use a larger budget"
        )
    seconds = time.perf_counter() - start
    sys.stderr.write(f"{name}, task {task}, seed {seed}: {seconds:.1f} s\n")
    return [task_reference.regret(value) for value in values]


def rows(
    methods: Sequence[str],
    tasks: Sequence[str],
    seeds: int,
    budgets: Sequence[float],
    spread: Spread = map,
) -> Iterator[dict[str, Any]]:
    """A row for each method and budget; those of a method as soon as it has run everywhere."""
    list(spread(reference, tasks))
    for name in methods:
        runs = [(name, task, seed, budgets) for task in tasks for seed in range(seeds)]
        table = np.array(list(spread(regrets, runs))).reshape(len(tasks), seeds, len(budgets))
        for column, budget in enumerate(budgets):
            mean, low, high = interval(table[:, :, column].mean(axis=1))
            row = {"method": name, "budget": budget, "mean_regret": mean, "low": low, "high": high}
            yield {**row, "tasks": len(tasks), "seeds": seeds}


def interval(means: np.ndarray) -> tuple[float, float, float]:
    """The mean of the tasks' means, and its 95 % interval by a bootstrap over tasks."""
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    picked = generator.integers(len(means), size=(REPLICATES, len(means)))
    low, high = np.percentile(means[picked].mean(axis=1), [2.5, 97.5])
    return float(means.mean()), float(low), float(high)


def arguments() -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(description="Search quality on replayed learning curves.")
    parser.add_argument("--tasks", type=listed, help="OpenML tasks; without it lcbench's TASKS")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budgets", type=listed, default=["2", "4", "8"])
    parser.add_argument("--methods", type=listed, default=list(METHODS))
    parser.add_argument("--jobs", type=int, default=1, help="processes that run side by side")
    args = parser.parse_args()
    args.tasks = args.tasks or list(lcbench().TASKS)
    reject_unknown("--tasks", args.tasks, tasks_known())
    reject_unknown("--methods", args.methods, list(METHODS))
    args.budgets = [budget(text) for text in args.budgets]
    for name in ("seeds", "jobs"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)}: must be 1 or more")
    return args


def listed(text: str) -> list[str]:
    """The parts of a comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def reject_unknown(option: str, values: Sequence[str], names: Sequence[str]) -> None:
    """Raise UserError if one of `values` is none of `names`."""
    for value in values:
        if value not in names:
            raise UserError(f"{option} {value}: unknown; must be one of {', '.join(names)}")


def budget(text: str) -> float:
    """A budget in full trainings; UserError if it is not a positive number."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise UserError(
            f"--budgets {text}: must be positive multiples of the full-training time, such as 2,4,8"
        )
    return int(number) if number.is_integer() else number


def print_rows(
    parse: Callable[[], argparse.Namespace],
    rows_of: Callable[[argparse.Namespace, Spread], Iterator[dict[str, Any]]],
) -> int:
    """Print the rows of a command line, computed by its `jobs`; returns 2 if it is invalid."""
    try:
        args = parse()
        with ProcessPoolExecutor(args.jobs, get_context("spawn")) as pool:
            for row in rows_of(args, pool.map if args.jobs > 1 else map):
                print(json.dumps(row), flush=True)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def main() -> int:
    """Print the rows of the command line; returns 2 if it is invalid."""

    def rows_of(args: argparse.Namespace, spread: Spread) -> Iterator[dict[str, Any]]:
        return rows(args.methods, args.tasks, args.seeds, args.budgets, spread)

    return print_rows(arguments, rows_of)


if __name__ == "__main__":
    sys.exit(main())
