"""The proposals of a simulated search choose networks as the sampler of the space does."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import pytest

from raysearch.config.samplers import (
    ForestSampler,
    GridSampler,
    RandomSampler,
    Sampler,
    TpeSampler,
)
from raysearch.config.space import Budget, Hyperparameter, Space
from raysearch.search.journal.events import TrialStarted, ValueExcluded
from raysearch.search.journal.history import History
from raysearch.search.sampling.sampler import propose
from raysearch.search.scheduling.forest import NUM_STARTUP_TRIALS
from raysearch.search.scheduling.simulated_proposals import (
    NUM_PROPOSED,
    PRIOR_PROPOSALS,
    SimulatedProposals,
    proposed_networks,
    simulated_sampler,
)
from support.simulated_studies import SPACE

ARCHITECTURES = Hyperparameter("architecture", "choice", ("cnn", "p4m"))
TWO_NETWORKS = replace(SPACE, hparams=(ARCHITECTURES, *SPACE.hparams[2:]))
WITH_FOREST = replace(TWO_NETWORKS, sampler=ForestSampler())
EQUAL = {"cnn": 1.0, "p4m": 1.0}
NUM_PROPOSALS = 200


def counts(
    proposals: SimulatedProposals, space: Space = TWO_NETWORKS, history: History | None = None
) -> Counter[object]:
    numbers = range(NUM_STARTUP_TRIALS, NUM_STARTUP_TRIALS + NUM_PROPOSALS)
    history = history or History()
    return Counter(proposals(space, history, number)["architecture"] for number in numbers)


def fraction_of_p4m(
    sampler: Sampler,
    expected: dict[str, float],
    seconds: dict[str, float],
    max_fold_epochs: int | None = None,
) -> float:
    planned = replace(TWO_NETWORKS, sampler=sampler, budget=Budget(fold_epochs=max_fold_epochs))
    proposals = SimulatedProposals(planned, expected, seconds)
    space = replace(planned, sampler=simulated_sampler(sampler))
    return counts(proposals, space)["p4m"] / NUM_PROPOSALS


def test_a_model_prefers_the_better_network() -> None:
    sampler = ForestSampler()
    assert fraction_of_p4m(sampler, {}, EQUAL) == pytest.approx(0.5, abs=0.1)
    slightly = fraction_of_p4m(sampler, {"cnn": -0.1, "p4m": 0.1}, EQUAL)
    assert 0.6 < slightly < 0.8
    assert fraction_of_p4m(sampler, {"cnn": -0.7, "p4m": 0.7}, EQUAL) > 0.99


def test_the_forest_prefers_cheaper_networks_and_other_samplers_do_not() -> None:
    seconds = {"cnn": 1.0, "p4m": 20.0}
    assert fraction_of_p4m(ForestSampler(), {}, seconds) < 0.1
    by_fold_epochs = fraction_of_p4m(ForestSampler(), {}, seconds, 100)
    assert by_fold_epochs == pytest.approx(0.5, abs=0.1)
    assert fraction_of_p4m(TpeSampler(), {}, seconds) == pytest.approx(0.5, abs=0.1)
    assert fraction_of_p4m(ForestSampler(), {"cnn": -1.0, "p4m": 1.0}, seconds) > 0.9


def test_the_first_proposals_and_those_without_a_model_are_the_samplers() -> None:
    known = {"cnn": -5.0, "p4m": 5.0}
    assert fraction_of_p4m(RandomSampler(), known, EQUAL) == pytest.approx(0.5, abs=0.1)
    grid = replace(TWO_NETWORKS, sampler=GridSampler(steps=2))
    proposals = SimulatedProposals(grid, known, EQUAL)
    assert simulated_sampler(grid.sampler) == grid.sampler
    assert proposals(grid, History(), 20) == propose(grid, History(), 20)
    random = replace(TWO_NETWORKS, sampler=RandomSampler())
    proposals = SimulatedProposals(WITH_FOREST, known, EQUAL)
    for number in range(NUM_STARTUP_TRIALS):
        assert proposals(random, History(), number) == propose(random, History(), number)


def test_no_proposal_has_an_excluded_value_or_violates_a_constraint() -> None:
    known = {"cnn": -5.0, "p4m": 5.0}
    proposals = SimulatedProposals(WITH_FOREST, known, EQUAL)
    history = History([ValueExcluded("architecture", "p4m")])
    assert counts(proposals, history=history) == {"cnn": NUM_PROPOSALS}
    limited = replace(
        TWO_NETWORKS,
        sampler=RandomSampler(),
        constraints=("architecture != 'p4m' or learning_rate < 0.001",),
    )
    for number in range(NUM_STARTUP_TRIALS, NUM_STARTUP_TRIALS + 20):
        proposal = proposals(limited, History(), number)
        assert proposal["architecture"] == "p4m"
        assert float(proposal["learning_rate"]) < 0.001


def test_the_networks_that_the_model_proposed_last_are_proposed_again() -> None:
    trials = [
        TrialStarted(f"t{number:04d}", "trial", {"architecture": "p4m"}, 0, 3)
        for number in range(20)
    ]
    proposed = proposed_networks(WITH_FOREST, History(trials))
    assert proposed == ["p4m"] * NUM_PROPOSED
    assert proposed_networks(WITH_FOREST, History(trials[:NUM_STARTUP_TRIALS])) == []
    points = replace(WITH_FOREST, points_to_evaluate=((("architecture", "p4m"),),) * 20)
    assert proposed_networks(points, History(trials)) == []
    known = {"cnn": 5.0, "p4m": -5.0}
    without = SimulatedProposals(WITH_FOREST, known, EQUAL)
    assert counts(without)["p4m"] == 0
    with_proposed = SimulatedProposals(WITH_FOREST, known, EQUAL, proposed)
    fraction = NUM_PROPOSED / (NUM_PROPOSED + PRIOR_PROPOSALS)
    assert counts(with_proposed)["p4m"] / NUM_PROPOSALS == pytest.approx(fraction, abs=0.1)


def test_a_network_without_an_allowed_configuration_is_given_up_soon() -> None:
    impossible = replace(
        TWO_NETWORKS, sampler=RandomSampler(), constraints=("architecture != 'p4m'",)
    )
    proposals = SimulatedProposals(WITH_FOREST, {"p4m": 5.0}, EQUAL)
    start = time.process_time()
    assert counts(proposals, impossible) == {"cnn": NUM_PROPOSALS}
    assert time.process_time() - start < 5


def test_a_simulation_of_fewer_trials_makes_fewer_random_proposals() -> None:
    known = {"cnn": -5.0, "p4m": 5.0}
    proposals = SimulatedProposals(WITH_FOREST, known, EQUAL, factor=8.0)
    space = replace(TWO_NETWORKS, sampler=RandomSampler())
    networks = [proposals(space, History(), number)["architecture"] for number in range(1, 30)]
    assert set(networks) == {"p4m"}
