"""The time of a planned study as text and as JSON values."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from raysearch.cli.time_text import (
    PlanTimes,
    duration_text,
    remaining_json,
    time_json,
    time_left_text,
    time_rows,
    time_table,
)
from raysearch.config.space import Budget
from raysearch.config.space_file import parse_space
from raysearch.search.scheduling.cost_estimate import SimulatedSearch, SimulatedTrial
from raysearch.search.scheduling.epoch_seconds import EpochSeconds
from raysearch.search.scheduling.remaining_seconds import RemainingSeconds
from raysearch.search.scheduling.time_forecast import TimeForecast
from support.result_studies import TREE

SPACE = parse_space(TREE, "x")
SEARCH = SimulatedSearch((SimulatedTrial("cnn", 8, 0, True),))
FORECAST = TimeForecast(5400, 3600, 7300, 4800, 600, {"cnn": 0.18, "p4m": 0.82})
SECONDS = {"cnn": EpochSeconds((7.0, 8.4)), "p4m": EpochSeconds((539.0,))}
TIMES = PlanTimes(SEARCH, SECONDS, {}, 2, FORECAST)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.123, "0.12 s"), (2.24, "2.2 s"), (45, "45 s"), (540, "9 min"), (3599, "60 min")),
        *((4320, "1 h 12 min"), (86_400 * 2 + 3600 * 3, "2 d 3 h")),
    ],
)
def test_a_duration_has_at_most_two_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_the_slowest_choice_is_named_with_its_part_of_the_budget() -> None:
    rows = time_rows(TIMES, SPACE)
    assert rows["slow choices"] == (
        "p4m: 9 min an epoch, 70 times cnn; it will take 82 % of the search"
    )
    limited = replace(SPACE, budget=Budget(hours=2))
    assert time_rows(TIMES, limited)["slow choices"].endswith("82 % of the budget")
    assert rows["time"] == (
        "about 1 h 30 min (1 h 0 min to 2 h 2 min), 2 trials at a time: 1 h 20 min of the search,"
        " 10 min after it"
    )


def test_a_network_that_is_not_measured_makes_the_time_unknown() -> None:
    unknown = {"p4m": "out of memory"}
    times = PlanTimes(SEARCH, {"cnn": SECONDS["cnn"]}, unknown, 2)
    assert time_rows(times, SPACE)["time"] == "unknown; p4m: out of memory"
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(time_table(times))
    assert "unknown" in console.export_text().split("p4m")[1]
    values = time_json(times)
    assert values["seconds"] is None
    networks = values["networks"]
    assert isinstance(networks, dict)
    assert networks["p4m"] is None
    assert values["unknown"] == unknown


def test_the_json_values_are_the_numbers_of_the_text() -> None:
    values = json.loads(json.dumps(time_json(TIMES)))
    assert (values["seconds"], values["low_seconds"], values["high_seconds"]) == (5400, 3600, 7300)
    assert values["trials_at_a_time"] == 2
    slow = values["networks"]["p4m"]
    assert slow["fold_epoch_seconds"] == 539
    assert slow["times_fastest"] == pytest.approx(70)
    assert slow["search_fraction"] == 0.82


def test_the_time_of_a_resume_is_the_remaining_one() -> None:
    times = replace(TIMES, is_resumed=True, remaining=RemainingSeconds(1200, 65))
    row = "about 21 min, 2 trials at a time: 20 min of the search, 65 s after it"
    assert time_rows(times, SPACE)["remaining time"] == row
    assert "time" not in time_rows(times, SPACE)
    values = time_json(times)
    assert (values["is_remaining"], values["seconds"], values["low_seconds"]) == (True, 1280, None)
    assert time_json(replace(times, remaining=None))["seconds"] is None
    times = replace(times, remaining=RemainingSeconds(1200, 65, (585, 3585)))
    row = time_rows(times, SPACE)["remaining time"]
    assert row.startswith("about 21 min (10 min to 1 h 0 min), 2 trials at a time: 20 min of")
    values = time_json(times)
    assert (values["low_seconds"], values["high_seconds"]) == (600, 3600)
    assert time_json(TIMES)["is_remaining"] is False


def test_the_time_left_has_its_limits_if_they_are_known() -> None:
    assert time_left_text(RemainingSeconds(500, 40)) == "about 9 min left"
    with_limits = RemainingSeconds(500, 40, (300, 1200))
    assert time_left_text(with_limits) == "about 9 min left (5 min to 20 min)"
    values = {"seconds": 540, "low_seconds": 300, "high_seconds": 1200}
    assert values.items() <= remaining_json(with_limits).items()
    later = with_limits.after(520)
    assert (later.search, later.after_search, later.limits) == (0, 20, (0, 680))
