"""Each sampler proposes no value that the user excluded, and the same proposals at a resume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from raysearch.config.samplers import SAMPLERS
from raysearch.config.space import Hyperparameter, Stopping
from raysearch.search.journal.events import FoldReport, TrialStarted, ValueExcluded
from raysearch.search.journal.history import History
from raysearch.search.sampling.exclusions import remaining_space
from raysearch.search.scheduling.policy import SearchPolicy
from support.simulated_studies import SPACE, quality

CHOICES = tuple(f"a{number}" for number in range(5))
HPARAMS = (
    Hyperparameter("architecture", "choice", CHOICES),
    Hyperparameter("width", "int", (1, 9), (("architecture", ("a0", "a1")),)),
    *SPACE.hparams,
)


def proposals(sampler: str, exclusions: Mapping[int, str], num_trials: int) -> list[TrialStarted]:
    """The trials of a study; before a trial, the architecture of its number is excluded."""
    space = replace(
        SPACE,
        hparams=HPARAMS,
        trials=10**6,
        sampler=SAMPLERS[sampler](),
        stopping=Stopping(1, 3, "forest" if sampler == "forest" else "asha"),
        points_to_evaluate=((("architecture", "a4"),),) * 3,
    )
    policy, trials = SearchPolicy(space), []
    for number in range(num_trials):
        if number in exclusions:
            policy.apply(ValueExcluded("architecture", exclusions[number]))
        event = policy.next()
        assert event is not None
        if not isinstance(event, TrialStarted):
            break
        trials.append(event)
        policy.apply(event)
        value = quality(event.hparams) + 0.1 * (event.hparams["architecture"] == "a4")
        policy.apply(FoldReport(event.trial, 0, 1, value, {}, None, 1.0, rung=True))
    return trials


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_no_sampler_proposes_an_excluded_value(sampler: str) -> None:
    exclusions = {2: "a4", 6: "a0", 9: "a1", 11: "a2"}
    trials = proposals(sampler, exclusions, 16)
    assert len(trials) == 16
    architectures = [str(trial.hparams["architecture"]) for trial in trials]
    assert architectures[:2] == ["a4", "a4"]
    for number, value in exclusions.items():
        assert value not in architectures[number:]
    assert set(architectures[11:]) == {"a3"}
    assert len({str(trial.hparams) for trial in trials[2:]}) == 14
    assert [trial.hparams for trial in proposals(sampler, exclusions, 16)] == [
        trial.hparams for trial in trials
    ]


def test_an_exclusion_changes_no_earlier_proposal() -> None:
    for sampler in ("random", "qmc", "tpe"):
        without = [trial.hparams for trial in proposals(sampler, {}, 8)]
        assert [trial.hparams for trial in proposals(sampler, {5: "a4"}, 8)][:5] == without[:5]


def test_a_forged_journal_that_excludes_all_values_excludes_none() -> None:
    space = replace(SPACE, hparams=HPARAMS)
    history = History([ValueExcluded("architecture", value) for value in CHOICES])
    assert remaining_space(space, history) == space
