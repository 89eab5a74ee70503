"""A host is called slow by the times of its trials, and not because of their hyperparameters."""

from collections.abc import Callable

import numpy as np
import pytest

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.search.journal.events import Event, FoldReport, ModelCosts, TrialStarted
from raysearch.search.journal.history import History
from raysearch.search.study.slow_hosts import ALPHA, MAX_TRIALS, SlowHost, slow_hosts

HOSTS = ("node1", "node2", "node3")


def trial(
    number: int,
    host: str | None,
    seconds: float,
    flops: int = 1000,
    network: str = "cnn",
    *,
    samples: int = 100,
    adaptation: str = "full",
) -> list[Event]:
    """The events of a trial with two fold-epochs."""
    # No two trials take exactly the same time.
    seconds *= 1 + 0.001 * np.sin(number)
    hparams: Hparams = {"architecture": network, "adaptation": adaptation}
    name = f"t{number:04}"
    events: list[Event] = [TrialStarted(name, "trial", hparams, 1, 2)]
    for epoch in (1, 2):
        costs = ModelCosts(32, 10, flops) if epoch == 1 else None
        events.append(
            FoldReport(
                *(name, 0, epoch, 0.5, {}, 1.0, seconds),
                samples=samples,
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
    assert [host.ratio for host in slow] == [pytest.approx(factor, rel=0.01)] * len(slow)


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

    assert slow_hosts(history_of(6, slow_first)) == []  # two trials of each host: p = 1 / 15
    assert slow_hosts(history_of(9, slow_first)) != []  # three of each: p = 1 / 84
    assert slow_hosts(history_of(9, lambda number, _host: trial(number, "node1", 9.0))) == []
    assert slow_hosts(history_of(9, lambda number, _host: trial(number, None, 9.0))) == []
    assert slow_hosts(History([])) == []


@pytest.mark.parametrize(("num_hosts", "num_trials"), [(4, 3), (8, 3), (8, 10)])
def test_hyperparameters_alone_seldom_make_a_host_slow(num_hosts: int, num_trials: int) -> None:
    rng = np.random.default_rng(0)
    num_studies, num_wrong = 200, 0
    for _study in range(num_studies):
        events = [
            event
            for number in range(num_hosts * num_trials)
            for event in trial(number, f"node{number % num_hosts}", np.exp(rng.normal(0, 0.8)))
        ]
        num_wrong += bool(slow_hosts(History(events)))
    assert num_wrong <= 2 * ALPHA * num_studies


def test_classifiers_of_frozen_features_say_nothing_about_a_host() -> None:
    def make(number: int, host: str) -> list[Event]:
        return trial(number, host, 9.0 if host == "node1" else 1.0, adaptation="frozen")

    assert slow_hosts(history_of(30, make)) == []


@pytest.mark.parametrize("seconds", [1e300, 1e-300, float("inf"), float("nan"), -1.0, 0.0])
@pytest.mark.parametrize("samples", [100, 0, -5])
def test_impossible_numbers_of_a_journal_are_no_error(seconds: float, samples: int) -> None:
    def make(number: int, host: str) -> list[Event]:
        return trial(number, host, seconds if host == "node1" else 1.0, samples=samples)

    slow = slow_hosts(history_of(15, make))
    is_slow = (seconds, samples) == (1e300, 100)  # nothing larger can be written into a journal
    assert [host.host for host in slow] == ["node1"] * is_slow
    assert [host.ratio for host in slow] == [pytest.approx(1e6)] * is_slow


@pytest.mark.parametrize("networks", [("cnn", "cnn"), ("cnn", "resnet18"), ("resnet18", "cnn")])
@pytest.mark.parametrize("becomes_slow", [False, True])
def test_only_the_last_trials_of_a_host_count(
    networks: tuple[str, str], becomes_slow: bool
) -> None:
    def make(number: int, host: str) -> list[Event]:
        is_late = number >= 3 * MAX_TRIALS + 6
        # Both networks appear first, so that their order in the history does not matter.
        network = networks[number % 2] if number < 6 else networks[is_late]
        is_slow = host == "node1" and is_late == becomes_slow
        return trial(number, host, 9.0 if is_slow else 1.0, network=network)

    before, after = history_of(3 * MAX_TRIALS + 6, make), history_of(6 * MAX_TRIALS + 6, make)
    assert bool(slow_hosts(before)) == (not becomes_slow)
    assert bool(slow_hosts(after)) == becomes_slow


def test_the_text_names_the_host_and_the_factor() -> None:
    assert str(SlowHost("node2", 3.04)) == "node2 takes 3.0 times as long as the other hosts"
