"""What a search-space file may say beside its hyperparameters: each setting, and what its value may be."""

from __future__ import annotations

from typing import get_args

from raysearch.config.bounds import Limits
from raysearch.config.space import FOLDS, ChampionKind, Rule
from raysearch.data.splits.split_creation import LEAVE_ONE_OUT, OFFICIAL

KEYS = (
    "data",
    "task",
    "split",
    "validation",
    "objective",
    "epochs",
    "trials",
    "seed",
    "resources",
    "sampler",
    "stopping",
    "budget",
    "points",
    "constraints",
    "ceilings",
    "warm_start",
    "auxiliary",
    "repeats",
    "champion",
    "space",
)
MOST = 10**9
VALIDATIONS = (FOLDS, LEAVE_ONE_OUT, OFFICIAL)

# A sampler's name -> its options.
SAMPLERS: dict[str, dict[str, Limits]] = {
    "forest": {},
    "tpe": {
        "multivariate": Limits(bool),
        "constant_liar": Limits(bool),
        "group": Limits(bool),
        "startup_trials": Limits(int, 1, MOST),
        "by_rung": Limits(bool),
    },
    "gp": {"startup_trials": Limits(int, 1, MOST)},
    "qmc": {"type": Limits(str, names=("sobol", "halton")), "scramble": Limits(bool)},
    "random": {},
    "grid": {"steps": Limits(int, 2, 1000)},
}
STOPPING = {
    "rule": Limits(str, names=get_args(Rule)),
    "grace": Limits(int, 1, MOST),
    "reduction": Limits(int, 2, MOST),
    "patience": Limits(int, 0, MOST),
    "paired": Limits(float, 0.0, 1.0),
}
BUDGET = {
    "hours": Limits(float, 1e-3, 1e6),
    "gpu_hours": Limits(float, 1e-3, 1e6),
    "dollars": Limits(float, 0.01, 1e9),
    "fold_epochs": Limits(int, 1, MOST),
    "no_improvement": Limits(int, 1, MOST),
    "target": Limits(float, 0.0, 1e6),
}
# What is known of a trial's net beside its objective.
CEILINGS = {"parameters": Limits(float, 1, 1e12), "inference_ms": Limits(float, 1e-6, 1e6)}
PRICE = Limits(float, 0.0, 1e6)
FRESH_SEEDS = Limits(int, 0, 20)
CHAMPION = Limits(str, names=get_args(ChampionKind))
