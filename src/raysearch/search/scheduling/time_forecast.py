"""Forecasts the time of a study before it starts, from its simulated search and probed speeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, quantiles

import numpy as np

from raysearch.config.space import Space
from raysearch.search.sampling.searched_networks import reports_per_fold
from raysearch.search.scheduling.budget import HOUR_S
from raysearch.search.scheduling.cost_estimate import SimulatedSearch, SimulatedTrial
from raysearch.search.scheduling.epoch_seconds import (
    EpochSeconds,
    SecondsByNetwork,
    refit_speedup,
)
from raysearch.search.scheduling.work_after_search import OVERHEAD_S, WorkAfterSearch

# Ray, the tracking store and the first workers start in this time, on two cores.
STARTUP_S = 15.0
NUM_REPLICATES = 200
# A probe of a few batches is wrong by so much: the machine may be busier, or less busy, later.
LOW_FACTOR, HIGH_FACTOR = 0.8, 1.25


@dataclass(frozen=True)
class TimeForecast:
    """The forecast time of a study, in seconds.

    Attributes:
        total: The median of the whole study.
        low: A total that one of ten studies falls below.
        high: A total that one of ten studies exceeds.
        search: The median of the search.
        after_search: The median of refit, repeats and registration.
        fractions: The fraction of the search that trials of each network take.
    """

    total: float
    low: float
    high: float
    search: float
    after_search: float
    fractions: Mapping[str, float]


def forecast_time(
    space: Space,
    search: SimulatedSearch,
    seconds: SecondsByNetwork,
    num_slots: int,
    num_cpus: float,
    features_s: float = 0.0,
) -> TimeForecast:
    """Forecast the time of a study of `space`.

    Args:
        space: The search space.
        search: Its simulated search.
        seconds: The seconds of a fold-epoch of each network of the space.
        num_slots: The number of trials that train at a time.
        num_cpus: The cores of the machine.
        features_s: The seconds in which all slots compute the features of frozen networks. They
            are part of the search.
    """
    rng = np.random.default_rng(0)
    searches, after, totals = [], [], []
    sums = dict.fromkeys(seconds, 0.0)
    for _replicate in range(NUM_REPLICATES):
        trials = _resampled(search, rng)
        trial_s = [_draw(_known(seconds, trial.network).values, rng) for trial in trials]
        work = [
            trial.fold_epochs * (epoch_s + OVERHEAD_S)
            for trial, epoch_s in zip(trials, trial_s, strict=True)
        ]
        for trial, part in zip(trials, work, strict=True):
            sums[trial.network] = sums.get(trial.network, 0.0) + part
        searches.append(features_s + _search_seconds(space, search, sum(work), work, num_slots))
        after.append(_after_search(space, trials, trial_s, num_slots, num_cpus, rng))
        totals.append(STARTUP_S + searches[-1] + after[-1])
    low, *_deciles, high = quantiles(totals, n=10)
    total_work = max(1e-9, sum(sums.values()))
    return TimeForecast(
        total=float(np.median(totals)),
        low=LOW_FACTOR * low,
        high=HIGH_FACTOR * high,
        search=float(np.median(searches)),
        after_search=float(np.median(after)),
        fractions={name: part / total_work for name, part in sums.items()},
    )


def _resampled(search: SimulatedSearch, rng: np.random.Generator) -> list[SimulatedTrial]:
    """As many trials as the simulation has, drawn from it with replacement."""
    indices = rng.integers(len(search.trials), size=len(search.trials))
    return [search.trials[index] for index in indices.tolist()]


def _known(seconds: SecondsByNetwork, network: str) -> EpochSeconds:
    """Return the seconds of a network; of one that was not among the sampled ones, the slowest."""
    return seconds.get(network) or max(seconds.values(), key=lambda value: value.expected)


def _draw(values: tuple[float, ...], rng: np.random.Generator) -> float:
    return values[int(rng.integers(len(values)))]


def _search_seconds(
    space: Space, search: SimulatedSearch, total: float, work: list[float], num_slots: int
) -> float:
    """The seconds of the search on its slots; at its end, some of them are idle."""
    unlimited = max(1, sum(trial.fold_epochs for trial in search.trials) * search.factor)
    factor = search.factor * min(1.0, search.fold_epochs / unlimited)
    seconds = total * factor / num_slots + fmean(work) * (num_slots - 1) / (2 * num_slots)
    if space.budget.hours is not None:
        seconds = min(seconds, space.budget.hours * HOUR_S)
    if space.budget.gpu_hours is not None and space.resources.gpus:
        device_s = space.budget.gpu_hours * HOUR_S / space.resources.gpus
        seconds = min(seconds, device_s / num_slots)
    return seconds


def _after_search(
    space: Space,
    trials: list[SimulatedTrial],
    trial_s: list[float],
    num_slots: int,
    num_cpus: float,
    rng: np.random.Generator,
) -> float:
    """The seconds after the search, if one of the trials that finished becomes the champion."""
    fold_s = [
        seconds * reports_per_fold(space, trial.network)
        for trial, seconds in zip(trials, trial_s, strict=True)
    ]
    finished = [
        seconds for trial, seconds in zip(trials, fold_s, strict=True) if trial.has_finished
    ]
    candidates = finished or fold_s
    champion_fold_s = candidates[int(rng.integers(len(candidates)))]
    folds = min(map(int, space.values_of("folds")))
    speedup = refit_speedup(num_cpus, space.resources.cpus)
    work = WorkAfterSearch(
        folds=folds,
        num_slots=num_slots,
        num_repeats=space.repeats * folds,
        refit_speedup=speedup if space.champion == "refit" else None,
    )
    return sum(work.units(champion_fold_s))
