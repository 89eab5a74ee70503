"""What a new search learns from earlier studies, on simulated trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from raysearch.config.hyperparameter_spec import Hparams
from raysearch.config.samplers import ForestSampler, RandomSampler, TpeSampler
from raysearch.config.space import Hyperparameter, Space, Stopping
from raysearch.search.journal.events import TrialStarted
from raysearch.search.transfer.source_model import model_quality
from raysearch.search.transfer.source_models import NUM_BEST, best_configurations, has_pattern
from raysearch.search.transfer.source_study import MAX_CURVE_POINTS, SourceStudy, source_study
from raysearch.search.transfer.study_memory import INITIAL_TRUST, RungReport, StudyMemory
from support.simulated_studies import (
    SPACE,
    SimulatedStudy,
    finished_policy,
    quality,
    repeated_decisions,
)

FOREST = replace(SPACE, trials=30, stopping=Stopping(1, 3, "forest"), sampler=ForestSampler())


def worst_first(hparams: Hparams) -> float:
    """An objective that is large where `quality` is small."""
    return 1.2 - quality(hparams)


def earlier(
    name: str, objective: Callable[[Hparams], float] = quality, num_trials: int = 40
) -> SourceStudy:
    """A random search."""
    space = replace(SPACE, trials=num_trials, sampler=RandomSampler(), seed=sum(map(ord, name)))
    return source_study(name, space, finished_policy(space, 1, objective).history)


def shuffled(source: SourceStudy) -> SourceStudy:
    """The study with the curves of other configurations."""
    order = np.random.default_rng(0).permutation(len(source.trials))
    trials = [
        replace(trial, hparams=source.trials[other].hparams)
        for trial, other in zip(source.trials, order, strict=True)
    ]
    return replace(source, trials=tuple(trials))


@pytest.fixture(scope="module")
def useful() -> list[SourceStudy]:
    """Two studies of the same task."""
    return [earlier("a"), earlier("b")]


def qualities(space: Space, sources: Sequence[SourceStudy], seed: int) -> list[float]:
    """The qualities of the configurations of a search, in the order of their starts."""
    study = SimulatedStudy(space, seed, sources=sources)
    started = [event for event in study.run() if isinstance(event, TrialStarted)]
    return [quality(event.hparams) for event in started]


def test_a_source_has_the_curves_of_its_trials() -> None:
    space = replace(SPACE, trials=6)
    history = finished_policy(space, 1).history
    source = source_study("a", space, history)
    assert (source.metric, source.mode) == ("auroc", "max")
    by_hparams = {frozenset(trial.hparams.items()): trial for trial in source.trials}
    for trial in history.searched():
        curve = by_hparams[frozenset({**trial.hparams, "epochs": 6}.items())].curve
        assert curve[-1] == (trial.epoch / 18, trial.objective)
        assert len(curve) == min(MAX_CURVE_POINTS, len(trial.reports))
        assert all(first < second for first, second in pairwise(curve))
    assert {trial.epoch_seconds for trial in source.trials} == {1.0}


def test_useful_studies_propose_good_configurations_first(useful: list[SourceStudy]) -> None:
    with_memory, without = (
        [max(qualities(replace(FOREST, seed=seed, trials=4), sources, seed)) for seed in range(4)]
        for sources in (useful, [])
    )
    assert np.mean(with_memory) > 0.87
    assert np.mean(with_memory) > np.mean(without) + 0.01


def test_misleading_studies_are_dropped() -> None:
    sources = [earlier(name, worst_first) for name in ("a", "e", "f")]
    assert all(map(has_pattern, sources))
    study = SimulatedStudy(replace(FOREST, trials=20), 3, sources=sources)
    started = [event for event in study.run() if isinstance(event, TrialStarted)]
    assert sum(event.origin == "memory" for event in started[:4]) == 2
    assert all(event.origin != "memory" for event in started[12:])
    assert max(quality(event.hparams) for event in started) > 0.87


def test_a_good_study_among_misleading_ones_is_used() -> None:
    sources = [earlier("good"), *(earlier(name, worst_first) for name in "abcdefghi")]
    space = replace(FOREST, trials=16)
    study = SimulatedStudy(space, 1, sources=sources)
    study.run()
    memory = StudyMemory(space, sources)
    memory.weigh(
        [
            RungReport(trial.id, trial.hparams, epoch / 18, objective)
            for trial, epoch, objective in study.policy.history.at_rungs
        ]
    )
    assert memory.weights["good"] == 1
    assert max(weight for name, weight in memory.weights.items() if name != "good") < 0.05
    assert memory.trust > 0.5
    # Reports that cannot be compared say nothing.
    memory = StudyMemory(space, sources)
    trials = study.policy.history.searched()[:7]
    memory.weigh([RungReport(trial.id, trial.hparams, 0.5, 0.7) for trial in trials])
    assert memory.trust == INITIAL_TRUST


def test_a_study_whose_results_have_no_pattern_is_no_source(useful: list[SourceStudy]) -> None:
    assert min(map(model_quality, useful)) > 0.5
    assert all(map(has_pattern, useful))
    without_pattern = [shuffled(source) for source in useful]
    without_pattern += [earlier(name, lambda _hparams: 0.7) for name in ("a", "e", "f")]
    assert not any(map(has_pattern, without_pattern))
    few = replace(useful[0], trials=useful[0].trials[:3])
    assert not has_pattern(few)


def test_the_decisions_depend_on_the_events_only(useful: list[SourceStudy]) -> None:
    sources = [*useful, earlier("c", worst_first)]
    space = replace(FOREST, trials=16)
    events = SimulatedStudy(space, 1, failure_rate=0.1, sources=sources).run()
    decisions = list(repeated_decisions(space, events, sources))
    assert len(decisions) > 16
    for event, repeated in decisions:
        assert repeated is not None
        assert replace(repeated, number=event.number, time=event.time) == event
    started = [event for event in events if isinstance(event, TrialStarted)]
    assert {event.origin for event in started} == {"memory", "model", "random"}


def test_another_sampler_has_no_memory(useful: list[SourceStudy]) -> None:
    for sampler, origin in ((TpeSampler(), "sampler"), (RandomSampler(), "random")):
        space = replace(FOREST, sampler=sampler, trials=12)
        first, second = (SimulatedStudy(space, 1, sources=each).run() for each in (useful, []))
        assert first == second
        started = [event for event in first if isinstance(event, TrialStarted)]
        assert {event.origin for event in started} == {origin}


def test_excluded_values_and_constraints_apply_to_proposals(useful: list[SourceStudy]) -> None:
    space = replace(FOREST, constraints=("learning_rate < 1e-3",), trials=12)
    for event in SimulatedStudy(space, 1, sources=useful).run():
        assert not isinstance(event, TrialStarted) or float(event.hparams["learning_rate"]) < 1e-3
    rare = replace(FOREST, constraints=("learning_rate < 1.0001e-4", "optimizer == 'sgd'"))
    assert StudyMemory(rare, useful).best(20, lambda _hparams: False) == []
    assert StudyMemory(rare, useful).next_configuration([], lambda _hparams: False) is None
    memory = StudyMemory(FOREST, useful)

    def uses_adamw(hparams: Hparams) -> bool:
        return hparams["optimizer"] == "adamw"

    assert {hparams["optimizer"] for hparams in memory.best(20, uses_adamw)} == {"sgd"}
    proposed = memory.next_configuration([], uses_adamw)
    assert proposed is not None
    assert proposed["optimizer"] == "sgd"


def test_a_study_of_another_space_teaches_about_what_both_have(useful: list[SourceStudy]) -> None:
    hparams = (
        Hyperparameter("learning_rate", "loguniform", (1e-3, 1.0)),
        Hyperparameter("width", "int", (4, 16)),
        Hyperparameter("batch_size", "choice", (64, 128)),
        Hyperparameter("folds", "fixed", (3,)),
    )
    space = replace(FOREST, hparams=hparams)
    memory = StudyMemory(space, useful)
    rates = [float(each["learning_rate"]) for each in memory.best(10, lambda _hparams: False)]
    assert 1e-3 <= min(rates) < max(rates) < 2e-2
    assert len(best_configurations(space, useful[0])) == NUM_BEST


def test_without_a_trial_in_the_space_random_configurations_remain(
    useful: list[SourceStudy],
) -> None:
    hparams = (
        Hyperparameter("optimizer", "choice", ("rmsprop", "lion")),
        Hyperparameter("learning_rate", "loguniform", (1e-4, 1e-1)),
        Hyperparameter("folds", "fixed", (3,)),
    )
    space = replace(FOREST, hparams=hparams)
    assert best_configurations(space, useful[0]) == []
    best = StudyMemory(space, useful).best(5, lambda _hparams: False)
    assert {hparams["optimizer"] for hparams in best} <= {"rmsprop", "lion"}
    assert StudyMemory(space, []).next_configuration([], lambda _hparams: False) is None
