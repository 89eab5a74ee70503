"""The forecast of the time of a study before it starts."""

from dataclasses import replace

import pytest

from raysearch.config.space import Budget, Space
from raysearch.config.space_file import parse_space
from raysearch.search.scheduling.cost_estimate import simulate_search
from raysearch.search.scheduling.epoch_seconds import EpochSeconds
from raysearch.search.scheduling.time_forecast import STARTUP_S, TimeForecast, forecast_time
from support.timed_studies import START, TimedStudy

SECONDS = {"cnn": 1.0, "p4m": 20.0, "benchmark": 0.2}


def space(rule: str, architectures: list[str]) -> Space:
    tree = {
        "objective": {"metric": "auroc", "mode": "max"},
        "epochs": 3,
        "trials": 12,
        "sampler": "random",
        "stopping": {"rule": rule, "paired_alpha": 0},
        "space": {
            "folds": 2,
            "architecture": {"choice": architectures},
            "learning_rate": {"loguniform": [1e-4, 1e-2]},
        },
    }
    return parse_space(tree, "x")


def forecast(of_study: Space, num_slots: int = 2) -> TimeForecast:
    names = map(str, of_study.values_of("architecture"))
    seconds = {name: EpochSeconds((SECONDS[name],)) for name in names}
    return forecast_time(
        of_study, simulate_search(of_study, SECONDS, num_slots), seconds, num_slots, num_slots
    )


@pytest.mark.parametrize("rule", ["none", "asha", "promotion"])
def test_a_study_takes_about_as_long_as_forecast(rule: str) -> None:
    of_study = space(rule, ["cnn", "p4m"])
    expected = forecast(of_study)
    assert 0 < expected.low < expected.total < expected.high
    study = TimedStudy(of_study, SECONDS, num_slots=2)
    study.run()
    assert expected.low < study.end - START + STARTUP_S < expected.high


def test_a_slow_architecture_takes_most_of_the_search() -> None:
    fractions = forecast(space("none", ["cnn", "p4m"])).fractions
    assert sum(fractions.values()) == pytest.approx(1)
    assert 0.85 < fractions["p4m"] < 1


def test_slots_and_a_limit_of_hours_shorten_the_search() -> None:
    of_study = space("none", ["cnn", "p4m"])
    assert forecast(of_study, 4).search < 0.7 * forecast(of_study, 2).search
    limited = replace(of_study, budget=Budget(hours=0.01))
    assert forecast(limited).search == 36
