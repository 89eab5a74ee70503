"""The hosts whose trials take much longer than those of the other hosts of a study."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from raysearch.config.names import FROZEN
from raysearch.search.journal.events import FoldReport
from raysearch.search.journal.history import History, Trial

# A host is slow if its trials take at least so many times the time of the others.
MIN_RATIO = 2.0
# Hyperparameters also change the time of a trial. If all hosts were equally fast, so large a
# fraction of studies would have a host whose trials rank so far behind by chance.
ALPHA = 0.05
# A host may become slow, or recover: only its last trials count.
MAX_TRIALS = 10
# The larger ones are as good as infinite; `exp` of a hostile journal's times has no limit.
MAX_RATIO = 1e6


# By sample and by floating-point operation, as logarithms relative to the network's median.
_Times = tuple[float, float]


@dataclass(frozen=True)
class SlowHost:
    """A host, and how many times the others' time its trials take."""

    host: str
    ratio: float

    def __str__(self) -> str:
        return f"{self.host} takes {self.ratio:.1f} times as long as the other hosts"


@dataclass(frozen=True)
class _Speed:
    """The time of a trial's fold-epochs on a host, as logarithms.

    Args:
        network: What the trial trains: its architecture and adaptation.
        by_sample: Of the seconds of a sample.
        by_operation: Of the seconds of a floating-point operation.
        last_event: The number of the last report in the journal.
    """

    network: tuple[object, object]
    by_sample: float
    by_operation: float
    last_event: int


def slow_hosts(history: History) -> list[SlowHost]:
    """Return the hosts that take at least `MIN_RATIO` times as long as the others; slowest first.

    The last `MAX_TRIALS` trials of a host are compared with those of the other hosts, relative to
    the median of all trials with the same architecture and adaptation, by sample and by
    floating-point operation. The smaller of the two ratios counts, so that a host is not slow
    because its trials have larger networks. A one-sided Mann-Whitney test, with Bonferroni's
    correction for the number of hosts, has to reject by both that the host is as fast as the
    others. Classifiers of frozen features are left out: the first of a node also computes them.
    """
    speeds = _speeds_by_host(history)
    medians = _medians([speed for of_host in speeds.values() for speed in of_host])
    relative = {
        host: [_relative(speed, medians[speed.network]) for speed in of_host]
        for host, of_host in speeds.items()
    }
    slow = []
    for host, times in relative.items():
        others = [time for other in relative if other != host for time in relative[other]]
        ratio = _ratio(times, others, ALPHA / len(relative))
        if ratio >= MIN_RATIO:
            slow.append(SlowHost(host, ratio))
    return sorted(slow, key=lambda host: -host.ratio)


def _ratio(times: Sequence[_Times], others: Sequence[_Times], alpha: float) -> float:
    """How many times the time of `others` a host takes; 1 if that may be chance."""
    if not times or not others:
        return 1.0
    ratio = MAX_RATIO
    for measure in range(2):  # by sample, by operation
        host_values = [time[measure] for time in times]
        other_values = [time[measure] for time in others]
        log_ratio = median(host_values) - median(other_values)
        ratio = min(ratio, math.exp(min(log_ratio, math.log(MAX_RATIO))))
        if ratio < MIN_RATIO or _p_value(host_values, other_values) > alpha:
            return 1.0
    return ratio


def _p_value(values: Sequence[float], others: Sequence[float]) -> float:
    """The probability of values that rank so far above `others` if they are no larger."""
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(values, others, alternative="greater").pvalue)


def _medians(speeds: Sequence[_Speed]) -> Mapping[tuple[object, object], _Times]:
    """The median times of the trials of each network."""
    by_network: dict[tuple[object, object], list[_Speed]] = defaultdict(list)
    for speed in speeds:
        by_network[speed.network].append(speed)
    return {
        network: (
            median(speed.by_sample for speed in of_network),
            median(speed.by_operation for speed in of_network),
        )
        for network, of_network in by_network.items()
    }


def _relative(speed: _Speed, of_network: _Times) -> _Times:
    return speed.by_sample - of_network[0], speed.by_operation - of_network[1]


def _speeds_by_host(history: History) -> Mapping[str, list[_Speed]]:
    """The times of the last trials of each host."""
    speeds: dict[str, list[_Speed]] = defaultdict(list)
    for trial in history.searched():
        if trial.hparams.get("adaptation") != FROZEN:
            for host, speed in _speeds_of_trial(trial):
                speeds[host].append(speed)
    return {
        host: sorted(of_host, key=lambda speed: speed.last_event)[-MAX_TRIALS:]
        for host, of_host in speeds.items()
    }


def _speeds_of_trial(trial: Trial) -> Iterator[tuple[str, _Speed]]:
    """The median time of the trial's fold-epochs on each of its hosts."""
    network = (trial.hparams.get("architecture"), trial.hparams.get("adaptation"))
    reports: dict[str, list[FoldReport]] = defaultdict(list)
    for report in trial.reports:
        if report.host and 0 < report.seconds < math.inf and (report.samples or 0) > 0:
            reports[report.host].append(report)
    log_operations = math.log(_operations(trial.reports))
    for host, of_host in reports.items():
        by_sample = median(
            math.log(report.seconds) - math.log(report.samples or 1) for report in of_host
        )
        last_event = max(report.number for report in of_host)
        yield host, _Speed(network, by_sample, by_sample - log_operations, last_event)


def _operations(reports: Sequence[FoldReport]) -> float:
    """The floating-point operations of a patch; 1 if they were not measured."""
    return next((float(max(1, report.costs.flops)) for report in reports if report.costs), 1.0)
