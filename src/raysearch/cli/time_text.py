"""The time of a planned study, as text, as a table and as JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue
from rich.markup import escape
from rich.table import Table

from raysearch.config.space import Space
from raysearch.search.scheduling.cost_estimate import SimulatedSearch
from raysearch.search.scheduling.epoch_seconds import EpochSeconds
from raysearch.search.scheduling.remaining_seconds import RemainingSeconds
from raysearch.search.scheduling.time_forecast import STARTUP_S, TimeForecast
from raysearch.search.study.speed_cache import FeatureSeconds

# A network is named as slow if a fold-epoch takes so many times that of the fastest, or as
# costly if its trials take this fraction of the search.
SLOW_FACTOR, COSTLY_FRACTION = 5.0, 0.5
MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0


@dataclass(frozen=True)
class PlanTimes:
    """What is known about the time of a planned study.

    Attributes:
        search: Its simulated search.
        epoch_seconds: The seconds of a fold-epoch by network, of those that are measured; of a
            frozen one, those of a fold.
        unknown: Why a network is not measured, by its name.
        num_slots: The number of trials that train at a time; None on a cluster.
        forecast: The forecast of the whole study; None if a network is not measured.
        is_resumed: Whether the study exists, and the plan is that of its resume.
        remaining: What a study that exists still needs once it has started; None if unknown.
        features: The time of the features of each frozen architecture.
    """

    search: SimulatedSearch
    epoch_seconds: Mapping[str, EpochSeconds] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    num_slots: int | None = None
    forecast: TimeForecast | None = None
    is_resumed: bool = False
    remaining: RemainingSeconds | None = None
    features: Mapping[str, FeatureSeconds] = field(default_factory=dict)

    @property
    def fastest(self) -> str | None:
        """The network with the shortest fold-epoch; None if none is measured."""
        names = list(self.epoch_seconds)
        return min(names, key=lambda name: self.epoch_seconds[name].expected, default=None)

    def ratio(self, name: str) -> float:
        """How many times as long a fold-epoch of a network takes as that of the fastest."""
        fastest = self.epoch_seconds[self.fastest or name].expected
        return self.epoch_seconds[name].expected / max(fastest, 1e-9)


def duration_text(seconds: float) -> str:
    """Return a duration in two units at most: `0.4 s`, `45 s`, `9 min`, `1 h 12 min`, `2 d 3 h`."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 1.5 * MINUTE_S:
        return f"{seconds:.0f} s"
    minutes = round(seconds / MINUTE_S)
    if seconds < HOUR_S:
        return f"{minutes} min"
    if seconds < DAY_S:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / HOUR_S)
    return f"{hours // 24} d {hours % 24} h"


def time_left_text(remaining: RemainingSeconds) -> str:
    """Return the estimated time that a running study still needs, such as `about 9 min left`."""
    text = f"about {duration_text(remaining.total)} left"
    if remaining.limits is None:
        return text
    return "{} ({} to {})".format(text, *map(duration_text, remaining.limits))


def time_rows(times: PlanTimes, space: Space) -> dict[str, str]:
    """Return the time of a study, and its slow choices, as text by their titles."""
    title = "remaining time" if times.is_resumed else "time"
    return {
        title: _time_text(times),
        "features": "\n".join(_feature_lines(times)),
        "slow choices": "\n".join(_slow_lines(times, space)),
    }


def _feature_lines(times: PlanTimes) -> list[str]:
    """A line for each frozen architecture: how long its features take if they are not stored."""
    lines = []
    for name, features in times.features.items():
        seconds = features.seconds / max(1, times.num_slots or 1)
        kinds = f", {features.num_kinds} kinds" if features.num_kinds > 1 else ""
        lines.append(
            f"{name}: about {duration_text(seconds)}, once on each node, for"
            f" {features.num_patches:,} patches{kinds}"
        )
    return lines


def _time_text(times: PlanTimes) -> str:
    """Return the time of a study, or the remaining time of one that exists."""
    slots = "1 trial" if times.num_slots == 1 else f"{times.num_slots} trials"
    if times.remaining is not None:
        remaining = times.remaining
        text = f"about {duration_text(STARTUP_S + remaining.total)}"
        if remaining.limits is not None:
            low, high = (duration_text(STARTUP_S + limit) for limit in remaining.limits)
            text += f" ({low} to {high})"
        return (
            f"{text}, {slots} at a time:"
            f" {duration_text(remaining.search)} of the search,"
            f" {duration_text(remaining.after_search)} after it"
        )
    forecast = times.forecast
    if forecast is None or times.is_resumed:
        reasons = dict.fromkeys(times.unknown.values())
        if len(reasons) == 1:
            return f"unknown; {', '.join(times.unknown)}: {next(iter(reasons))}"
        return "unknown; " + "; ".join(f"{name}: {why}" for name, why in times.unknown.items())
    return (
        f"about {duration_text(forecast.total)} ({duration_text(forecast.low)} to"
        f" {duration_text(forecast.high)}), {slots} at a time: {duration_text(forecast.search)} of"
        f" the search, {duration_text(forecast.after_search)} after it"
    )


def _slow_lines(times: PlanTimes, space: Space) -> list[str]:
    """A line for each network that is slow, or costly, beside the others; slowest first."""
    fastest = times.fastest
    spent_from = "budget" if space.budget.hours is not None else "search"
    lines = []
    for name in sorted(times.epoch_seconds, key=times.ratio, reverse=True):
        fraction = None if times.forecast is None else times.forecast.fractions.get(name, 0.0)
        is_costly = fraction is not None and fraction >= COSTLY_FRACTION
        if name == fastest or not (times.ratio(name) >= SLOW_FACTOR or is_costly):
            continue
        line = f"{name}: {duration_text(times.epoch_seconds[name].expected)} an epoch,"
        line += f" {times.ratio(name):.3g} times {fastest}"
        if fraction is not None:
            line += f"; it will take {100 * fraction:.0f} % of the {spent_from}"
        lines.append(line)
    return lines


def time_table(times: PlanTimes) -> Table:
    """Return the seconds of a fold-epoch of each network, the slowest first."""
    names = ("network", "an epoch", "low", "high", "of the search")
    table = Table(*names, title="Time of a fold-epoch", title_justify="left")
    for name in sorted(times.epoch_seconds, key=times.ratio, reverse=True):
        seconds = times.epoch_seconds[name]
        texts = map(duration_text, (seconds.expected, seconds.low, seconds.high))
        fraction = None if times.forecast is None else times.forecast.fractions.get(name, 0.0)
        part = "unknown" if fraction is None else f"{100 * fraction:.0f} %"
        table.add_row(escape(name), *texts, part)
    for name in times.unknown:
        table.add_row(escape(name), *["unknown"] * 4)
    return table


def remaining_json(remaining: RemainingSeconds, startup_s: float = 0.0) -> dict[str, JsonValue]:
    """Return the remaining time as JSON values; `startup_s` are added before the search starts."""
    low, high = remaining.limits or (None, None)
    return {
        "seconds": round(startup_s + remaining.total, 1),
        "low_seconds": None if low is None else round(startup_s + low, 1),
        "high_seconds": None if high is None else round(startup_s + high, 1),
        "search_seconds": round(remaining.search, 1),
        "after_search_seconds": round(remaining.after_search, 1),
    }


def time_json(times: PlanTimes) -> dict[str, JsonValue]:
    """Return the same numbers as JSON values; null for what is unknown.

    `is_remaining` says that the seconds are those that a study that exists still needs; these have
    no low and high value if the rest is not simulated. The fractions of the search are those of the
    whole search.
    """
    forecast, remaining = times.forecast, times.remaining
    values: dict[str, JsonValue] = dict.fromkeys(
        ("seconds", "low_seconds", "high_seconds", "search_seconds", "after_search_seconds")
    )
    if remaining is not None:
        values |= remaining_json(remaining, STARTUP_S)
    elif forecast is not None and not times.is_resumed:
        values = {
            "seconds": round(forecast.total, 1),
            "low_seconds": round(forecast.low, 1),
            "high_seconds": round(forecast.high, 1),
            "search_seconds": round(forecast.search, 1),
            "after_search_seconds": round(forecast.after_search, 1),
        }
    networks: dict[str, JsonValue] = {
        name: {
            "fold_epoch_seconds": seconds.expected,
            "low_seconds": seconds.low,
            "high_seconds": seconds.high,
            "times_fastest": times.ratio(name),
            "search_fraction": None if forecast is None else forecast.fractions.get(name, 0.0),
        }
        for name, seconds in times.epoch_seconds.items()
    }
    return values | {
        "feature_seconds": {name: each.seconds for name, each in times.features.items()},
        "is_remaining": times.is_resumed,
        "trials_at_a_time": times.num_slots,
        "networks": networks | dict.fromkeys(times.unknown),
        "unknown": {**times.unknown},
    }
