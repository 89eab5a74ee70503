"""What further folds cost a study that gives them to the good trials alone, on replayed curves.

    LCBENCH=... uv run --group replay python benchmarks/replay/folds.py --tasks 3945 --seeds 2

Each configuration has 5 folds. The curve of one is the replayed curve, the truth, and noise, in
shares of the spread between configurations, which is that of the regret (oracle - median,
reference.py). Each is normal:

- .3, common to all configurations on a fold: some patients are harder than others;
- .15, a configuration's own on a fold, the same at all its epochs. Two configurations' folds go up
  and down with a correlation of .8 by this;
- .05, an epoch's own.

The sizes are a judgement, made before the first run, and not measured: published folds of one net
on IDC's 279 patients are .004 of AUROC apart, which is .13 of the spread if good nets and middling
ones differ by .03 (a guess), and studies of fewer patients have more.
`--noise 2` doubles all three. It hangs on the task, the seed of the run and the
configuration, so that all arms see the same.

"one by one" is a study as it is by default: a trial trains its first fold, is compared at rungs in
it, and gets further folds, one at a time, where the forest picks it. Its peers train every fold of
every surviving trial, by the same search: "to the end" has the rungs in the first fold, and who
survives them trains all others; "all at once" has the same rungs along the epochs, where an epoch
is one of all 5 folds, and costs 5 fold-epochs. To the forest that is a study of one fold, of which
it learns more by heart than of several. The objective is the mean over the folds so far. All
have 4 workers and the clock of run.py, and are studies of 48 trials, as every study has a number of
them: with trials without end, the forest begins new ones and finishes none.

After so many fold-epochs, the configuration chosen is that of the first trial on the study's
leaderboard: the best that finished; before there is one, the one that got furthest. Its regret is
that of its true accuracy after all epochs, without noise. For each budget, the first number of
fold-epochs is told at which the mean regret is down to that of a peer at that budget, for either
arm: what the peer had reached earlier counts from there. A study that is over keeps its choice. The
result is the worst of the ratios, null where "one by one" never gets there.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))

from raysearch.errors import UserError
from raysearch.search.deciding.forest import ByForest
from raysearch.search.deciding.rules import Verdict
from raysearch.search.history import History, Trial, leaderboard
from raysearch.search.space import Knob
from raysearch.training.loop import key
from replay.clock import Config, Curve, simulate
from replay.curves import EPOCHS, Ranges, curves_of, lcbench, tasks_known
from replay.methods import WORKERS
from replay.ours import Raysearch, space
from replay.reference import reference
from replay.run import known, listed

TRIALS, FOLDS = 48, 5
WHOLE = FOLDS * EPOCHS
GOAL = 0.5
OURS, PEERS = "one by one", ("to the end", "all at once")
# In whole trainings of all folds.
BUDGETS = (4, 8, 16)
# The chosen configuration is looked at each time that so many more fold-epochs are done.
EVERY = 20
REPLICATES = 2_000


@dataclass(frozen=True)
class Noise:
    """Standard deviations: of a fold, of a configuration on a fold, and of an epoch."""

    common: float = 0.3
    own: float = 0.15
    epoch: float = 0.05

    def times(self, factor: float) -> Noise:
        return Noise(factor * self.common, factor * self.own, factor * self.epoch)


class Folds:
    """Curves of `folds` folds: `curve`, and `noise` that hangs on `seed` and the configuration.

    With fewer `epochs` than 52, each is of as many of the curve's, and reports after the last.
    """

    def __init__(
        self, curve: Curve, noise: Noise, seed: int, folds: int = FOLDS, epochs: int = EPOCHS
    ) -> None:
        self._curve, self._noise, self._seed = curve, noise, seed
        self._shape = (folds, epochs)
        self._kept = np.round(np.arange(1, epochs + 1) * EPOCHS / epochs).astype(int) - 1
        generator = np.random.default_rng(key(seed, "folds"))
        self._common = generator.normal(0, noise.common, (folds, 1))

    def truth(self, config: Config) -> float:
        """The accuracy after all epochs, without noise."""
        return float(self._curve(config)[1][-1])

    def noisy(self, config: Config) -> np.ndarray:
        """The accuracies of each fold, of shape (folds, epochs)."""
        knobs = [config[name] for name in sorted(config) if name != "folds"]
        generator = np.random.default_rng(key(self._seed, "folds", *knobs))
        own = generator.normal(0, self._noise.own, (self._shape[0], 1))
        epochs = generator.normal(0, self._noise.epoch, self._shape)
        return np.asarray(self._curve(config)[1][self._kept] + self._common + own + epochs)

    def one_by_one(self, config: Config) -> tuple[np.ndarray, np.ndarray]:
        """Cumulative seconds and the objective, the mean over the folds so far.

        Of shape (folds * epochs,) each.
        """
        seconds, noisy = self._curve(config)[0][self._kept], self.noisy(config)
        order = np.arange(len(noisy))[:, None]
        ends = np.concatenate([[0.0], np.cumsum(noisy[:-1, -1])])
        means = (noisy + ends[:, None]) / (order + 1)
        return (seconds + seconds[-1] * order).ravel(), means.ravel()

    def at_once(self, config: Config) -> tuple[np.ndarray, np.ndarray]:
        """Cumulative seconds and the mean over all folds: (epochs,) each."""
        seconds = self._curve(config)[0][self._kept]
        return self._shape[0] * seconds, self.noisy(config).mean(axis=0)


class ToTheEnd(ByForest):
    """Whoever comes to the end of the first fold trains all others; the forest learns from them."""

    def verdict(self, history: History, trial: Trial, may_begin: bool) -> Verdict:
        return "on" if trial.epoch >= EPOCHS else super().verdict(history, trial, may_begin)


class Arm(Raysearch):
    """A study by the arm `name`: over 5 folds, or over 1, which is all of them at once."""

    def __init__(self, ranges: Ranges, seed: int, name: str, trials: int = TRIALS) -> None:
        asked, folds = space(ranges, seed, trials), 1 if name == "all at once" else FOLDS
        # All arms have the knob, so that all draw the same.
        knobs = (*asked.knobs, Knob("folds", "fixed", (folds,)))
        super().__init__(replace(asked, knobs=knobs), folds)
        self._cost = FOLDS // folds
        if name == "to the end":
            self._course.rule = ToTheEnd(self._course.space)
        # The configuration that was chosen after every `EVERY` fold-epochs.
        self.chosen: list[Config] = []

    @property
    def spent(self) -> int:
        """The fold-epochs done: a report of all folds at once is of five."""
        return self._cost * self._course.history.spent.fold_epochs

    def report(self, trial: str, epoch: int, value: float, seconds: float) -> bool:
        goes_on = super().report(trial, epoch, value, seconds)
        if self.spent % EVERY == 0:
            self.chosen.append(leaderboard(self._course.history, "max")[0].knobs)
        return goes_on


def regrets(name: str, task: str, seed: int, noise: Noise) -> list[float]:
    """The regret of what an arm had chosen after every `EVERY` fold-epochs."""
    fixed, begun = reference(task), time.perf_counter()
    spread = fixed.oracle - fixed.median
    replayed = Folds(curves_of(task), noise.times(spread), key(task, seed))
    arm = Arm(lcbench().SPACE, seed, name)
    curve = replayed.at_once if name == "all at once" else replayed.one_by_one
    simulate(arm, curve, WORKERS, math.inf)
    took = time.perf_counter() - begun
    sys.stderr.write(f"{name}, task {task}, seed {seed}: {arm.spent} fold-epochs, {took:.1f} s\n")
    found = [fixed.regret(replayed.truth(config)) for config in arm.chosen]
    longest = max(BUDGETS) * WHOLE // EVERY
    return (found + [found[-1]] * longest)[:longest]


def needed(means: np.ndarray, level: float) -> float:
    """The first number of fold-epochs at which `means` are down to `level`; infinity for never."""
    reached = np.flatnonzero(means <= level)
    return float(reached[0] + 1) * EVERY if len(reached) else math.inf


def ratios(ours: np.ndarray, peer: np.ndarray) -> list[tuple[float, float, float]]:
    """For each budget: the peer's regret there, and what ours and the peer need to reach it."""
    levels = [float(peer[budget * WHOLE // EVERY - 1]) for budget in BUDGETS]
    return [(level, needed(ours, level), needed(peer, level)) for level in levels]


def interval(ours: np.ndarray, peer: np.ndarray) -> np.ndarray:
    """95 % of the ratio at each budget, over draws of tasks: (2, budgets)."""
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(REPLICATES):
        tasks = generator.integers(len(ours), size=len(ours))
        found = ratios(ours[tasks].mean(axis=0), peer[tasks].mean(axis=0))
        drawn.append([min(mine / theirs, 99.0) for _level, mine, theirs in found])
    return np.percentile(drawn, [2.5, 97.5], axis=0)


def arguments() -> argparse.Namespace:
    """What the command line says, checked."""
    parser = argparse.ArgumentParser(description="What folds cost, on replayed learning curves.")
    parser.add_argument("--tasks", type=listed, help="OpenML tasks; without it lcbench's TASKS")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--noise", type=float, default=1.0, help="times the noise stated above")
    args = parser.parse_args()
    args.tasks = args.tasks or list(lcbench().TASKS)
    known("--tasks", args.tasks, tasks_known())
    for name, least in (("seeds", 1), ("noise", 0)):
        if not getattr(args, name) >= least:
            raise UserError(f"--{name} {getattr(args, name)}: give {least} or more")
    return args


def measure(tasks: Sequence[str], seeds: int, noise: Noise) -> dict[str, np.ndarray]:
    """For each arm, the regret by task and fold-epochs, the mean of the seeds."""
    return {
        name: np.array(
            [[regrets(name, task, seed, noise) for seed in range(seeds)] for task in tasks]
        ).mean(axis=1)
        for name in (OURS, *PEERS)
    }


def compared(ours: np.ndarray, peer: np.ndarray, name: str) -> float:
    """The worst ratio to a peer, each budget's told on the way."""
    found, (low, high) = ratios(ours.mean(axis=0), peer.mean(axis=0)), interval(ours, peer)
    shares = [mine / theirs for _level, mine, theirs in found]
    for place, (level, mine, theirs) in enumerate(found):
        sys.stderr.write(
            f"budget {BUDGETS[place]}: regret {level:.3f}; {OURS} {mine:.0f} fold-epochs, {name}"
            f" {theirs:.0f}: {shares[place]:.2f} ({low[place]:.2f}-{high[place]:.2f})\n"
        )
    return max(shares)


def main() -> int:
    """Print the result; 2 where the command line asks for what cannot be."""
    try:
        args = arguments()
        table = measure(args.tasks, args.seeds, Noise().times(args.noise))
    except UserError as fault:
        sys.stderr.write(f"{fault}\n")
        return 2
    worst = max(compared(table[OURS], table[name], name) for name in PEERS)
    told = round(worst, 3) if math.isfinite(worst) else None
    line = {
        "benchmark": "replay-folds",
        "value": told,
        "unit": "share of the fold-epochs",
        "peer": 1.0,
        "ratio": told,
        "goal": f"<= {GOAL}",
        "pass": worst <= GOAL,
    }
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
