"""How good studies of few planned trials are on replayed curves, whose slots would idle at the end.

    LCBENCH=... .venv/bin/python benchmarks/replay/planned_trials.py --rule promotion --trials 24

Four workers on a simulated clock; see run.py. The regret is that of the best report by a time, in
mean times of a full training, and of the champion. Oracle and median are those of 600 random
configurations. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))

from raysearch.config.space import Rule, Stopping
from replay.clock import incumbent, simulate
from replay.curves import curves_of, draw, lcbench
from replay.raysearch_method import Raysearch, space

TASKS = "167083,167161,167168,167181,167184,167185"
TIMES = (1.0, 2.0, 4.0)
NUM_RANDOM, RANDOM_SEED, WORKERS = 600, 1, 4
GRACE_PERIOD, REDUCTION_FACTOR = 5, 3


def study_row(task: str, seed: int, rule: Rule, trials: int) -> list[float]:
    """The regret at each of `TIMES`, at the end, and of the champion; then the fold-epochs."""
    curves, ranges = curves_of(task), lcbench().SPACE
    seconds, accuracy = curves.many(draw(ranges, NUM_RANDOM, RANDOM_SEED))
    oracle, median = float(accuracy.max()), float(np.median(accuracy[:, -1]))
    full_s = float(seconds[:, -1].mean())
    searched = replace(
        space(ranges, seed, trials), stopping=Stopping(GRACE_PERIOD, REDUCTION_FACTOR, rule)
    )
    method = Raysearch(searched)
    reports = simulate(method, curves, WORKERS, float("inf"))
    champion = float(curves(method.champion)[1][-1])
    values = [incumbent(reports, time * full_s) for time in TIMES]
    values += [reports[-1][1], champion]
    regrets = [(oracle - value) / (oracle - median) for value in values]
    return [*regrets, float(method.fold_epochs)]


def main() -> None:
    """Print the means over tasks and seeds."""
    parser = argparse.ArgumentParser(description="Studies of few planned trials.")
    parser.add_argument("--rule", choices=("forest", "promotion", "asha", "none"), default="forest")
    parser.add_argument("--tasks", default=TASKS)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--trials", type=int, default=24)
    args = parser.parse_args()
    tasks = args.tasks.split(",")
    rows = [
        study_row(task, seed, args.rule, args.trials)
        for task in tasks
        for seed in range(args.seeds)
    ]
    names = [*(f"regret_at_{time:g}" for time in TIMES), "regret_at_end", "champion", "fold_epochs"]
    means = [round(float(value), 3) for value in np.mean(rows, axis=0)]
    settings = {"rule": args.rule, "trials": args.trials, "tasks": len(tasks), "seeds": args.seeds}
    results = dict(zip(names, means, strict=True))
    print(json.dumps({"benchmark": "planned_trials", **settings, **results}))


if __name__ == "__main__":
    main()
