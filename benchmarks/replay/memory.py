"""How good a search is that has the trials of earlier studies, on replayed real learning curves.

    LCBENCH=... .venv/bin/python benchmarks/replay/memory.py --targets 3945 --memory poor --seeds 1

For each target, studies of the other source tasks are the memory:

- `rich`: 1,500 whole trainings of random configurations of each;
- `poor`: one study of each, by the search without memory, at a budget of 4;
- `reversed`: rich, with 100 - accuracy in place of the accuracy;
- `shuffled`: rich, with the curves of other configurations;
- `one_good`: ten of the tasks, of which the first is rich and the others are reversed.

Clock, workers, budgets and regret are those of run.py; it has the search without memory and the
methods without it. `fixed_list` trains a fixed list of configurations in order, chosen greedily by
the whole trainings of the source tasks; `zero_shot` trains those with the best mean rank in order.
`good_prior` and `bad_prior` are the search without memory and with the key `prior`, around the best
or the worst whole training of 1,500 random configurations of the target.
One JSON line a method and budget goes to stdout, progress to stderr.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).parents[1]))

from raysearch.config.space import Prior
from raysearch.errors import UserError
from raysearch.search.transfer.source_models import has_pattern
from raysearch.search.transfer.source_study import SourceStudy, SourceTrial, source_study
from raysearch.search.transfer.study_memory import StudyMemory
from raysearch.training.seeds import key
from replay import result_cache
from replay.clock import Config, Method, Work, incumbent, simulate
from replay.curves import EPOCHS, curves_of, draw, lcbench, tasks_known, version
from replay.methods import METHODS, WORKERS, trajectory
from replay.raysearch_method import Raysearch, space
from replay.reference import RANDOM, SEED, reference
from replay.run import Spread, budget, interval, listed, print_rows, reject_unknown

OURS, COLD = "raysearch-memory", "raysearch"
LISTS = ("fixed_list", "zero_shot")
PRIORS = ("good_prior", "bad_prior")
# A prior is around a number by this factor, or by this fraction of its range.
FACTOR, FRACTION = 3.0, 0.2
MEMORIES = ("rich", "poor", "reversed", "shuffled", "one_good")
POOR_BUDGET, POOR_SEED, NUM_MIXED, LIST_LENGTH = 4, 100, 10, 60
Floats = NDArray[np.float64]
# Method, memory, target, the other tasks, seed and budgets.
Run = tuple[str, str, str, tuple[str, ...], int, tuple[float, ...]]


@cache
def random_trainings(task: str) -> tuple[list[dict[str, float]], Floats, Floats]:
    """Random configurations, the same for all tasks, their seconds and their final accuracy."""
    configs = draw(lcbench().SPACE, RANDOM, SEED)
    name = f"memory/rich-{task}-{version()}.json"
    stored = result_cache.read(name)
    if stored is None:
        seconds, accuracy = curves_of(task).many(configs)
        stored = {"seconds": seconds[:, -1].tolist(), "accuracy": accuracy[:, -1].tolist()}
        result_cache.write(name, stored)
    return configs, np.array(stored["seconds"]), np.array(stored["accuracy"])


@cache
def rich(task: str) -> SourceStudy:
    """A study of whole trainings of random configurations."""
    trials = [
        SourceTrial(config, ((1.0, float(value)),), float(seconds) / EPOCHS)
        for config, seconds, value in zip(*random_trainings(task), strict=True)
    ]
    return SourceStudy(task, "accuracy", "max", tuple(trials))


@cache
def poor(task: str) -> SourceStudy:
    """A study by the search without memory."""
    searched = space(lcbench().SPACE, POOR_SEED)
    method = Raysearch(searched)
    simulate(method, curves_of(task), WORKERS, POOR_BUDGET * reference(task).full_s)
    return source_study(task, searched, method.history)


def reversed_study(source: SourceStudy) -> SourceStudy:
    """The same study with the order of its objectives reversed."""
    trials = [
        replace(trial, curve=tuple((fraction, 100 - value) for fraction, value in trial.curve))
        for trial in source.trials
    ]
    return replace(source, trials=tuple(trials))


def shuffled_study(source: SourceStudy) -> SourceStudy:
    """The same study with the curves of other configurations."""
    order = np.random.default_rng(key(source.name)).permutation(len(source.trials))
    trials = [
        replace(trial, hparams=source.trials[other].hparams)
        for trial, other in zip(source.trials, order, strict=True)
    ]
    return replace(source, trials=tuple(trials))


def sources(memory: str, tasks: Sequence[str]) -> list[SourceStudy]:
    """The memory of studies of `tasks`."""
    if memory == "poor":
        return [poor(task) for task in tasks]
    studies = [rich(task) for task in tasks]
    match memory:
        case "reversed":
            return [reversed_study(study) for study in studies]
        case "shuffled":
            return [shuffled_study(study) for study in studies]
        case "one_good":
            return [studies[0], *map(reversed_study, studies[1:NUM_MIXED])]
        case _:
            return studies


class ListMethod:
    """Trains configurations to the end, in order."""

    def __init__(self, configs: Sequence[Config]) -> None:
        self._configs, self._number = configs, 0

    def next(self) -> Work | None:
        """The next configuration of the list."""
        if self._number == len(self._configs):
            return None
        self._number += 1
        return Work(f"t{self._number}", self._configs[self._number - 1], 0)

    def report(self, _trial: str, _epoch: int, _value: float, _seconds: float) -> bool:
        """Every training goes on."""
        return True


@cache
def list_of(name: str, tasks: tuple[str, ...]) -> list[dict[str, float]]:
    """A list of configurations by the whole trainings of `tasks`."""
    accuracy = np.array([random_trainings(task)[2] for task in tasks])
    configs = random_trainings(tasks[0])[0]
    if name == "zero_shot":
        return [configs[index] for index in _mean_rank_order(accuracy)[:LIST_LENGTH]]
    best, median = accuracy.max(axis=1, keepdims=True), np.median(accuracy, axis=1, keepdims=True)
    regret = (best - accuracy) / (best - median)
    reached, chosen = np.full((len(tasks), 1), np.inf), []
    for _position in range(LIST_LENGTH):
        index = int(np.minimum(reached, regret).mean(axis=0).argmin())
        reached = np.minimum(reached, regret[:, [index]])
        chosen.append(configs[index])
    return chosen


def _mean_rank_order(accuracy: Floats) -> list[int]:
    """The configurations, best mean rank first, given their accuracies (tasks, configurations)."""
    ranks = np.argsort(np.argsort(-accuracy, axis=1), axis=1)
    return [int(index) for index in np.argsort(ranks.mean(axis=0))]


def prior_of(name: str, target: str) -> tuple[Prior, ...]:
    """The prior around a configuration that is good, or bad, for the task `target`."""
    configs, _seconds, accuracy = random_trainings(target)
    config = configs[int(accuracy.argmax() if name == "good_prior" else accuracy.argmin())]
    priors = []
    for hparam, (_kind, low, high, log) in lcbench().SPACE.items():
        deviation = None if log else FRACTION * (high - low)
        priors.append(Prior(hparam, float(config[hparam]), FACTOR if log else None, deviation))
    return tuple(priors)


def _method(name: str, memory: str, target: str, tasks: tuple[str, ...], seed: int) -> Method:
    if name in LISTS:
        return ListMethod(list_of(name, tasks))
    searched = space(lcbench().SPACE, seed)
    if name in PRIORS:
        return Raysearch(replace(searched, prior=prior_of(name, target)))
    return Raysearch(searched, memory=StudyMemory(searched, usable_sources(memory, tasks)))


@cache
def usable_sources(memory: str, tasks: tuple[str, ...]) -> list[SourceStudy]:
    """The studies of the memory that a launch would use."""
    return [source for source in sources(memory, tasks) if has_pattern(source)]


def regrets(run: Run) -> list[float]:
    """The regret of one run at each budget."""
    name, memory, target, tasks, seed, budgets = run
    task_reference = reference(target)
    end_s = max(budgets) * task_reference.full_s
    if name in METHODS:
        incumbents = trajectory(name, target, seed, end_s)
    else:
        method = _method(name, memory, target, tasks, seed)
        incumbents = simulate(method, curves_of(target), WORKERS, end_s)
    values = [incumbent(incumbents, budget * task_reference.full_s) for budget in budgets]
    sys.stderr.write(f"{name}, task {target}, seed {seed}\n")
    # A list has trained no epoch if its first configuration is slower than the budget.
    return [task_reference.regret(value) if np.isfinite(value) else 1.0 for value in values]


def rows(args: argparse.Namespace, spread: Spread) -> Iterator[dict[str, Any]]:
    """A row for each method and budget; those of a method as soon as it has run everywhere."""
    for name in args.methods:
        seeds = 1 if name in LISTS else args.seeds
        runs: list[Run] = [
            (name, args.memory, target, _others(args.sources, target), seed, tuple(args.budgets))
            for target in args.targets
            for seed in range(seeds)
        ]
        table = np.array(list(spread(regrets, runs)))
        table = table.reshape(len(args.targets), seeds, len(args.budgets))
        for column, budget_value in enumerate(args.budgets):
            mean, low, high = interval(table[:, :, column].mean(axis=1))
            row = {
                "method": name,
                "budget": budget_value,
                "mean_regret": mean,
                "low": low,
                "high": high,
            }
            yield {**row, "memory": args.memory, "tasks": len(args.targets), "seeds": args.seeds}


def _others(tasks: Sequence[str], target: str) -> tuple[str, ...]:
    return tuple(task for task in tasks if task != target)


def arguments() -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(description="Searches with memory on replayed curves.")
    parser.add_argument("--sources", type=listed, help="tasks; without it lcbench's TASKS")
    parser.add_argument("--targets", type=listed, help="tasks; without it lcbench's TASKS")
    parser.add_argument("--memory", choices=MEMORIES, default="rich")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--budgets", type=listed, default=["2", "4", "8"])
    parser.add_argument("--methods", type=listed, default=[OURS, COLD, *LISTS])
    parser.add_argument("--jobs", type=int, default=1, help="processes that run side by side")
    args = parser.parse_args()
    args.sources = args.sources or list(lcbench().TASKS)
    args.targets = args.targets or list(lcbench().TASKS)
    reject_unknown("--sources", args.sources, tasks_known())
    reject_unknown("--targets", args.targets, tasks_known())
    reject_unknown("--methods", args.methods, [OURS, *METHODS, *LISTS, *PRIORS])
    args.budgets = [budget(text) for text in args.budgets]
    if any(not _others(args.sources, target) for target in args.targets):
        raise UserError(f"--sources {','.join(args.sources)}: no task but the target; name others")
    for name in ("seeds", "jobs"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)}: must be 1 or more")
    return args


def main() -> int:
    """Print the rows of the command line; returns 2 if it is invalid."""
    return print_rows(arguments, rows)


if __name__ == "__main__":
    sys.exit(main())
