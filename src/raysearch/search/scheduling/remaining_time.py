"""Estimates the time that a study still needs, from its journal and measured speeds.

The fold-epochs of the search come from its simulation, corrected by those spent so far. Their
seconds are measured: those of the trial, else those of trials of its network, else those of a
probe. The slots share the work; the trainings after the search follow.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from statistics import median

from raysearch.config.space import Space
from raysearch.search.journal.events import (
    Event,
    FoldReport,
    StudyLaunched,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
)
from raysearch.search.journal.history import History, Trial
from raysearch.search.sampling.searched_networks import network_of, networks_of
from raysearch.search.scheduling.budget import HOUR_S, exhausted, fold_reports
from raysearch.search.scheduling.cost_estimate import SimulatedSearch
from raysearch.search.scheduling.epoch_seconds import (
    SecondsByNetwork,
    busy_seconds,
    refit_speedup,
    seconds_of_network,
)
from raysearch.search.scheduling.fold_epochs_ahead import FoldEpochsAhead
from raysearch.search.scheduling.remaining_search import RemainingSearch
from raysearch.search.scheduling.remaining_seconds import RemainingSeconds
from raysearch.search.scheduling.trial_speeds import Speeds, mean
from raysearch.search.scheduling.work_after_search import (
    MIN_FRACTION_LEFT,
    OVERHEAD_S,
    WORKER_START_S,
    WorkAfterSearch,
    seconds_left,
)

# The rest of a search with at most so many trials is simulated, so many times; with the rule
# `forest`, a simulation takes longer.
MAX_SIMULATED_TRIALS, MAX_FOREST_TRIALS, NUM_SIMULATIONS = 400, 60, 8
# The simulations differ less than studies do: their outer values are moved apart by this factor.
LIMITS_FACTOR = 1.5
# Without a probe, the estimate waits until so many of the networks are measured, or so many of
# the trials have started.
MIN_MEASURED_FRACTION, MIN_STARTED_FRACTION = 0.75, 0.5
NUM_OVERHEADS = 40


class RemainingTime:
    """Follows the events of a study, and estimates the time that it still needs.

    Args:
        space: The search space.
        search: Its simulated search.
        probed: The seconds of a fold-epoch by network, of those that a probe has measured.
        num_slots: The number of trials that train at a time; None if it is unknown.
        num_cpus: The cores of the largest node; None if it is unknown.
    """

    def __init__(
        self,
        space: Space,
        search: SimulatedSearch,
        probed: SecondsByNetwork,
        num_slots: int | None = None,
        num_cpus: float | None = None,
    ) -> None:
        self._space, self._probed = space, probed
        self._ahead = FoldEpochsAhead(space, search)
        self._num_slots, self._num_cpus = num_slots, num_cpus
        # The time of the last event of each running trial.
        self._last_times: dict[str, float] = {}
        self._last_time = 0.0
        self._num_concurrent = 0
        # Of the last fold-epochs, the seconds beside the training.
        self._overheads: deque[float] = deque(maxlen=NUM_OVERHEADS)
        # Trials whose worker process may be starting: the first of each slot.
        self._starting: set[str] = set()
        # Baselines that the launcher reports itself, at once.
        self._untrained: set[str] = set()
        # Trials that have reported.
        self._reported: set[str] = set()
        self._starts: list[float] = []

    def apply(self, event: Event) -> None:
        """Follow the study's next event."""
        match event:
            case StudyLaunched():
                self._last_times.clear()
                self._starting.clear()
                self._num_concurrent = 0
            case TrialStarted(trial=name, kind="majority"):
                self._untrained.add(name)
            case FoldReport(trial=name) if name in self._untrained:
                pass
            case TrialStarted(trial=name) | TrialPromoted(trial=name):
                self._last_times[name] = event.time
                if len(self._last_times) > self._num_concurrent:
                    self._starting.add(name)
            case FoldReport(trial=name):
                if name in self._last_times and name not in self._starting:
                    passed_s = event.time - self._last_times[name]
                    self._overheads.append(max(0.0, passed_s - event.seconds))
                elif name in self._starting and name not in self._reported:
                    passed_s = event.time - self._last_times[name]
                    self._starts.append(max(0.0, passed_s - event.seconds))
                self._starting.discard(name)
                self._reported.add(name)
                self._last_times[name] = event.time
            case TrialPaused(trial=name) | TrialEnded(trial=name):
                self._last_times.pop(name, None)
            case _:
                pass
        self._num_concurrent = max(self._num_concurrent, len(self._last_times))
        self._last_time = event.time

    @property
    def num_slots(self) -> int:
        """The number of trials that train at a time: the largest since the launch, if it is known.

        A study that has just started does not use all its slots yet.
        """
        return max(1, self._num_concurrent, self._num_slots or 0)

    def estimate(self, history: History, now: float) -> RemainingSeconds | None:
        """Estimate the time that the study still needs at `now`.

        None as long as networks of many trials are neither probed nor measured.
        """
        return self.begin_estimate(history, now)()

    def begin_estimate(self, history: History, now: float) -> Callable[[], RemainingSeconds | None]:
        """Read what an estimate needs; the returned function may take seconds.

        Nothing else may change `history` before this method returns.
        """
        speeds = Speeds(self._space, history, self._probed, self._elapsed(history, now))
        num_started, num_planned = len(history.searched()), history.planned(self._space.trials)
        is_early = num_started < MIN_STARTED_FRACTION * num_planned
        measured_fraction = speeds.measured_fraction()
        if not measured_fraction or (is_early and measured_fraction < MIN_MEASURED_FRACTION):
            return lambda: None
        overhead_s = self._mean_overhead_s()
        if not self._is_over(history) and self._can_simulate(history):
            return self._simulation(history, speeds, overhead_s, now)
        search_s, progress = 0.0, 1.0
        if not self._is_over(history):
            search_s, progress = self._search_seconds(history, speeds, overhead_s, now)
        estimate = RemainingSeconds(search_s, self._after_search(history, speeds, progress, now))
        return lambda: estimate

    def _can_simulate(self, history: History) -> bool:
        """Whether the rest of the search is short enough to be simulated several times."""
        is_forest = self._space.stopping.rule == "forest"
        limit = MAX_FOREST_TRIALS if is_forest else MAX_SIMULATED_TRIALS
        return history.planned(self._space.trials) <= limit

    def _simulation(
        self, history: History, speeds: Speeds, overhead_s: float, now: float
    ) -> Callable[[], RemainingSeconds]:
        """Return a function that simulates the rest of the search several times.

        Its result is the median of these, and of what follows.
        """
        rest = RemainingSearch(self._space, history)
        names = networks_of(self._space)
        by_network = {name: speeds.of_network(name) for name in names}
        by_trial = {trial.id: speeds.of_trial(trial) for trial in history.trials.values()}
        running = self._next_reports(history, by_trial, overhead_s, now)
        mean_fold_s = speeds.fold_of_mix(self._ahead.mix(history))
        after = self._work_after(history)
        num_slots, max_seconds = self.num_slots, self._budget_seconds(history)

        def seconds_of(trial: Trial) -> float:
            if trial.id in by_trial:
                return by_trial[trial.id]
            return seconds_of_network(by_network, network_of(self._space, trial.hparams))

        def simulate() -> RemainingSeconds:
            searches, totals, longest_after_s = [], [], 0.0
            for seed in range(NUM_SIMULATIONS):
                simulated = rest.simulate(
                    seed,
                    num_slots,
                    lambda trial: seconds_of(trial) + overhead_s,
                    by_network,
                    running,
                )
                champion = simulated.champion
                fold_s = mean_fold_s
                if champion is not None:
                    fold_s = seconds_of(champion) * fold_reports(self._space, champion)
                searches.append(min(simulated.seconds, max_seconds))
                after_s = sum(after.units(fold_s))
                totals.append(searches[-1] + after_s)
                longest_after_s = max(longest_after_s, after_s)
            total_s, search_s = median(totals), min(median(searches), median(totals))
            _lowest, low_s, *_others, high_s, _highest = sorted(totals)
            high_s = min(high_s * LIMITS_FACTOR, max_seconds + longest_after_s * LIMITS_FACTOR)
            return RemainingSeconds(search_s, total_s - search_s, (low_s / LIMITS_FACTOR, high_s))

        return simulate

    def _next_reports(
        self, history: History, by_trial: Mapping[str, float], overhead_s: float, now: float
    ) -> dict[str, float]:
        """The seconds until the next report of each running trial."""
        seconds = {}
        for trial in history.running():
            epoch_s = by_trial[trial.id] + overhead_s
            epoch_s += self._start_s() if trial.id in self._starting else 0.0
            elapsed_s = now - self._last_times.get(trial.id, now)
            seconds[trial.id] = max(epoch_s - elapsed_s, MIN_FRACTION_LEFT * epoch_s)
        return seconds

    def _start_s(self) -> float:
        """The seconds in which a worker process starts: the shortest measured time.

        The first trials start beside each other, and some of them import more than the champion.
        """
        return min(self._starts, default=WORKER_START_S)

    def _mean_overhead_s(self) -> float:
        return mean([*self._overheads, *[OVERHEAD_S] * (NUM_OVERHEADS // 4)])

    def _elapsed(self, history: History, now: float) -> Mapping[str, float]:
        """The seconds since the last event of each running trial."""
        return {
            trial.id: max(0.0, now - self._last_times.get(trial.id, now))
            for trial in history.running()
        }

    def _is_over(self, history: History) -> bool:
        """Whether the search is over."""
        if history.running() or history.paused():
            return False
        if history.selected is not None:
            return True
        has_started = not self._ahead.num_pending(history)
        return has_started or exhausted(self._space, history) is not None

    def _search_seconds(
        self, history: History, speeds: Speeds, overhead_s: float, now: float
    ) -> tuple[float, float]:
        """The seconds that the search still needs, and the part of its fold-epochs that is done."""
        remaining = self._ahead.fold_epochs(history)
        residuals = {trial.id: self._ahead.residual(history, trial) for trial in history.running()}
        by_trial = {trial.id: speeds.of_trial(trial) for trial in history.running()}
        loads = [
            (residuals[name] - 1) * (by_trial[name] + overhead_s) + next_s
            for name, next_s in self._next_reports(history, by_trial, overhead_s, now).items()
        ]
        searched = sum(residuals[trial.id] for trial in history.running() if trial.kind == "trial")
        waiting = max(remaining - searched, float(self._ahead.num_pending(history)))
        loads += [0.0] * (self.num_slots - len(loads))
        epoch_s = speeds.of_mix(self._ahead.mix(history)) + overhead_s
        seconds = busy_seconds(loads, waiting * epoch_s)
        spent = history.spent.fold_epochs
        progress = spent / max(1.0, spent + remaining)
        return min(seconds, self._budget_seconds(history)), progress

    def _budget_seconds(self, history: History) -> float:
        """The seconds after which the budget ends the search; infinite without such a limit."""
        budget, spent = self._space.budget, history.spent
        seconds = math.inf
        if budget.hours is not None:
            seconds = min(seconds, budget.hours * HOUR_S - spent.clock_s)
        if budget.gpu_hours is not None and self._space.resources.gpus:
            device_s = budget.gpu_hours * HOUR_S / self._space.resources.gpus - spent.device_s
            seconds = min(seconds, device_s / self.num_slots)
        if budget.dollars is not None and spent.dollars:
            device_s = (budget.dollars - spent.dollars) * spent.device_s / spent.dollars
            seconds = min(seconds, device_s / self.num_slots)
        return max(0.0, seconds)

    def _after_search(self, history: History, speeds: Speeds, progress: float, now: float) -> float:
        """The seconds of the refit, the repeats and the registration that are still to come."""
        champion = self._champion(history)
        fold_s = speeds.fold_of_mix(self._ahead.mix(history))
        if champion is not None:
            fold_s = progress * speeds.fold_of_trial(champion) + (1 - progress) * fold_s
        passed_s = max(0.0, now - self._last_time) if self._is_over(history) else 0.0
        return seconds_left(self._work_after(history).units(fold_s), passed_s)

    def _work_after(self, history: History) -> WorkAfterSearch:
        space, selected = self._space, _selected(history)
        is_refitted = selected is not None and selected.refit_hash is not None
        speedup = refit_speedup(self._num_cpus or 1.0, space.resources.cpus)
        folds = min(map(int, space.values_of("folds"))) if selected is None else selected.folds
        return WorkAfterSearch(
            folds=folds,
            num_slots=self.num_slots,
            num_repeats=space.repeats * folds,
            num_repeated=0 if selected is None else len(selected.repeats),
            refit_speedup=speedup if space.champion == "refit" and not is_refitted else None,
            start_s=self._start_s(),
        )

    def _champion(self, history: History) -> Trial | None:
        """The selected trial, or the one that would be selected now."""
        return _selected(history) or history.best(None, self._space.mode)


def _selected(history: History) -> Trial | None:
    return None if history.selected is None else history.trials[history.selected]
