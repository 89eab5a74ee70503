"""A host is called slow by the times of its trials, and not because of their hyperparameters."""

from collections.abc import Callable

import pytest

from raysearch.search.journal.events import Event, FoldReport, ModelCosts, TrialStarted
from raysearch.search.journal.history import History
from raysearch.search.study.slow_hosts import MAX_TRIALS, SlowHost, slow_hosts

HOSTS = ("node1", "node2", "node3")


def trial(
    number: int, host: str | None, seconds: float, flops: int = 1000, network: str = "cnn"
) -> list[Event]:
    """The events of a trial with two fold-epochs of 100 samples."""
    name = f"t{number:04}"
    events: list[Event] = [TrialStarted(name, "trial", {"architecture": network}, 1, 2)]
    for epoch in (1, 2):
        costs = ModelCosts(32, 10, flops) if epoch == 1 else None
        events.append(
            FoldReport(
                *(name, 0, epoch, 0.5, {}, 1.0, seconds),
                samples=100,
                host=host,
                costs=costs,
            )
        )
    return events


def history_of(trials: int, make: Callable[[int, str], list[Event]]) -> History:
    return History([event for number in range(trials) for event in make(number, HOSTS[number % 3])])


@pytest.mark.parametrize("factor", [1.0, 1.8, 3.0])
def test_a_host_is_slow_from_twice_the_time_of_the_others(factor: float) -> None:
    history = history_of(
        9, lambda number, host: trial(number, host, factor if host == "node2" else 1.0)
    )
    slow = slow_hosts(history)
    assert [host.host for host in slow] == (["node2"] if factor > 2 else [])
    assert [host.ratio for host in slow] == [pytest.approx(factor)] * len(slow)


def test_larger_networks_do_not_make_a_host_slow() -> None:
    def make(number: int, host: str) -> list[Event]:
        size = 4 if host == "node2" else 1
        return trial(number, host, float(size), flops=1000 * size)

    assert slow_hosts(history_of(9, make)) == []


def test_another_architecture_does_not_make_a_host_slow() -> None:
    def make(number: int, host: str) -> list[Event]:
        if host == "node2":
            return trial(number, host, 8.0, network="resnet18")
        return trial(number, host, 1.0)

    assert slow_hosts(history_of(9, make)) == []


def test_a_slow_host_is_noticed_among_several_architectures() -> None:
    def make(number: int, host: str) -> list[Event]:
        network, seconds = ("cnn", 1.0) if number % 2 else ("resnet18", 5.0)
        factor = 3.0 if host == "node3" else 1.0
        return trial(number, host, factor * seconds, network=network)

    assert [host.host for host in slow_hosts(history_of(24, make))] == ["node3"]


def test_few_trials_and_a_single_host_say_nothing() -> None:
    def slow_first(number: int, host: str) -> list[Event]:
        return trial(number, host, 9.0 if host == "node1" else 1.0)

    assert slow_hosts(history_of(6, slow_first)) == []  # two trials of each host
    assert slow_hosts(history_of(9, slow_first)) != []
    assert slow_hosts(history_of(9, lambda number, _host: trial(number, "node1", 9.0))) == []
    assert slow_hosts(history_of(9, lambda number, _host: trial(number, None, 9.0))) == []
    assert slow_hosts(History([])) == []


def test_a_host_that_recovered_is_not_slow() -> None:
    def make(number: int, host: str) -> list[Event]:
        was_slow = host == "node1" and number < 3 * MAX_TRIALS
        return trial(number, host, 9.0 if was_slow else 1.0)

    assert slow_hosts(history_of(3 * MAX_TRIALS, make)) != []
    assert slow_hosts(history_of(6 * MAX_TRIALS, make)) == []


def test_the_text_names_the_host_and_the_factor() -> None:
    assert str(SlowHost("node2", 3.04)) == "node2 takes 3.0 times as long as the other hosts"
