"""What further folds cost a study that gives them to the good trials alone, on replayed curves.

    LCBENCH=... .venv/bin/python benchmarks/replay/folds.py --tasks 3945 --seeds 2

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
have 4 workers, the clock of run.py, and a budget of so many whole trainings of all folds.

The configuration chosen is the champion, and its regret that of its true accuracy after all epochs,
without noise. Peers have budgets of 4, 8 and 16 whole trainings, "one by one" has of 2, too. For
each budget of a peer, it is told what share of it "one by one" needs for the same regret: regrets
between its budgets lie on straight lines, and less than 2 was not tried. The result is the worst of
the shares, null where "one by one" never gets there. It is also told how much of its fold-epochs an
arm spends in further folds: whoever saves all that "to the end" spends there still needs the rest.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))

from raysearch.errors import UserError
from raysearch.search.journal.history import History, Trial
from raysearch.search.scheduling.forest import ForestRule
from raysearch.search.scheduling.stopping_rules import Decision
from raysearch.training.seeds import key
from replay.clock import Config, Curve, simulate
from replay.curves import EPOCHS, Ranges, curves_of, lcbench, tasks_known
from replay.methods import WORKERS
from replay.raysearch_method import Budgeted, space
from replay.reference import reference
from replay.run import listed, reject_unknown

FOLDS = 5
GOAL = 0.5
OURS, PEERS = "one by one", ("to the end", "all at once")
# In whole trainings of all folds.
MIN_BUDGET, BUDGETS = 2, (4, 8, 16)
NUM_REPLICATES = 2_000
# An interval ends here where some draws of tasks never get there.
MAX_FRACTION = 4.0


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
        hparams = [config[name] for name in sorted(config) if name != "folds"]
        generator = np.random.default_rng(key(self._seed, "folds", *hparams))
        configuration_noise = generator.normal(0, self._noise.own, (self._shape[0], 1))
        epochs = generator.normal(0, self._noise.epoch, self._shape)
        return np.asarray(
            self._curve(config)[1][self._kept] + self._common + configuration_noise + epochs
        )

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


class ToTheEnd(ForestRule):
    """Whoever comes to the end of the first fold trains all others; the forest learns from them."""

    def decide(self, history: History, trial: Trial, may_start: bool) -> Decision:
        return "continue" if trial.epoch >= EPOCHS else super().decide(history, trial, may_start)


class Arm(Budgeted):
    """A study by the arm `name`: over 5 folds, or over 1, which is all of them at once."""

    def __init__(self, ranges: Ranges, seed: int, name: str, num_trainings: int) -> None:
        folds = 1 if name == "all at once" else FOLDS
        rule_type = ToTheEnd if name == "to the end" else None
        super().__init__(space(ranges, seed), folds, num_trainings * folds * EPOCHS, rule_type)
        self._cost = FOLDS // folds

    @property
    def spent(self) -> int:
        """The fold-epochs done: a report of all folds at once is of five."""
        return self._cost * self._policy.history.spent.fold_epochs

    @property
    def later_fold_epochs(self) -> int:
        """The fold-epochs of all folds but the trials' first ones."""
        if self._cost > 1:
            return self.spent - self.spent // FOLDS
        return sum(max(0, trial.epoch - EPOCHS) for trial in self._policy.history.searched())


def outcome(
    name: str, task: str, seed: int, noise: Noise, num_trainings: int
) -> tuple[float, float]:
    """The regret of the champion of an arm, and its fraction of fold-epochs in later folds."""
    task_reference, start = reference(task), time.perf_counter()
    spread = task_reference.oracle - task_reference.median
    replayed = Folds(curves_of(task), noise.times(spread), key(task, seed))
    arm = Arm(lcbench().SPACE, seed, name, num_trainings)
    curve = replayed.at_once if name == "all at once" else replayed.one_by_one
    simulate(arm, curve, WORKERS, math.inf)
    seconds = time.perf_counter() - start
    sys.stderr.write(
        f"{name}, task {task}, seed {seed}: {arm.spent} fold-epochs, {seconds:.1f} s\n"
    )
    return task_reference.regret(replayed.truth(arm.champion)), arm.later_fold_epochs / arm.spent


def needed_budget(budgets: Sequence[float], means: np.ndarray, level: float) -> float:
    """The smallest budget with a regret of at most `level`; infinity if there is none.

    The regrets `means` at `budgets` are interpolated linearly.
    """
    for index, mean in enumerate(means):
        if mean <= level:
            if not index:
                return float(budgets[0])
            budget, previous_mean = budgets[index - 1], means[index - 1]
            fraction = (previous_mean - level) / (previous_mean - mean)
            return float(budget + (budgets[index] - budget) * fraction)
    return math.inf


def arguments() -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(description="What folds cost, on replayed learning curves.")
    parser.add_argument("--tasks", type=listed, help="OpenML tasks; without it lcbench's TASKS")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--noise", type=float, default=1.0, help="times the noise stated above")
    args = parser.parse_args()
    args.tasks = args.tasks or list(lcbench().TASKS)
    reject_unknown("--tasks", args.tasks, tasks_known())
    for name, minimum in (("seeds", 1), ("noise", 0)):
        if not getattr(args, name) >= minimum:
            raise UserError(f"--{name} {getattr(args, name)}: must be {minimum} or more")
    return args


def measure(
    name: str, tasks: Sequence[str], seeds: int, noise: Noise, budgets: Sequence[int]
) -> np.ndarray:
    """The regret of `name` by task and budget, averaged over seeds."""
    outcomes = np.array(
        [
            [
                [outcome(name, task, seed, noise, budget) for budget in budgets]
                for seed in range(seeds)
            ]
            for task in tasks
        ]
    ).mean(axis=1)
    regrets, fractions = np.asarray(outcomes[..., 0]), outcomes[..., 1]
    for budget, regret, fraction in zip(budgets, regrets.mean(0), fractions.mean(0), strict=True):
        sys.stderr.write(
            f"{name}, budget {budget}: regret {regret:.3f}, {fraction:.0%} of it in later folds\n"
        )
    return regrets


def needed_fractions(regrets: np.ndarray, peer_regrets: np.ndarray) -> np.ndarray:
    """The fraction of each of a peer's budgets that raysearch needs for the same regret.

    Args:
        regrets: Regrets of raysearch, shape (tasks, budgets).
        peer_regrets: Regrets of the peer, shape (tasks, budgets).
    """
    levels, means = peer_regrets.mean(axis=0), regrets.mean(axis=0)
    needed = [needed_budget((MIN_BUDGET, *BUDGETS), means, level) for level in levels]
    return np.array(needed) / BUDGETS


def worst_fraction(regrets: np.ndarray, peer_regrets: np.ndarray, name: str) -> float:
    """The largest of the needed fractions of a peer's budgets; prints each with its interval."""
    generator = np.random.default_rng(0)
    replicates = generator.integers(len(regrets), size=(NUM_REPLICATES, len(regrets)))
    bootstrap = [
        np.minimum(needed_fractions(regrets[tasks], peer_regrets[tasks]), MAX_FRACTION)
        for tasks in replicates
    ]
    low, high = np.percentile(bootstrap, [2.5, 97.5], axis=0)
    fractions = needed_fractions(regrets, peer_regrets)
    for index, budget in enumerate(BUDGETS):
        sys.stderr.write(
            f"regret of {name} at budget {budget}: {OURS} needs {fractions[index]:.2f} of it"
            f" ({low[index]:.2f}-{high[index]:.2f})\n"
        )
    return float(fractions.max())


def main() -> int:
    """Print the result; returns 2 if the command line is invalid."""
    try:
        args = arguments()
        settings = args.tasks, args.seeds, Noise().times(args.noise)
        regrets = measure(OURS, *settings, (MIN_BUDGET, *BUDGETS))
        peers = {name: measure(name, *settings, BUDGETS) for name in PEERS}
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    worst = max(worst_fraction(regrets, peer, name) for name, peer in peers.items())
    value = round(worst, 3) if math.isfinite(worst) else None
    line = {
        "benchmark": "replay-folds",
        "value": value,
        "unit": "fraction of the fold-epochs",
        "peer": 1.0,
        "ratio": value,
        "goal": f"<= {GOAL}",
        "pass": worst <= GOAL,
    }
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
