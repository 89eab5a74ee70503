"""Selecting and registering the champion: each step once, and the tags of the version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from raysearch.champion import build, register
from raysearch.champion.model_artifact import unpack_model_artifact
from raysearch.champion.register import select_and_register_champion
from raysearch.search.journal.events import ChampionSelected
from raysearch.search.journal.history import Trial
from raysearch.search.study.study import Study
from raysearch.search.tracking.served_model import ServedRule
from raysearch.search.tracking.tracker import Tracker
from raysearch.selection.decision_rule import SelectionOptions
from raysearch.selection.stored_intervals import read_intervals, selection_intervals
from support.champion_studies import study_with_champion, train_repeat

# The fake registry below takes its place.
NO_TRACKER = cast("Tracker", None)


class FakeRegistry:
    """Takes the registered models."""

    def __init__(self) -> None:
        self.tags: list[Mapping[str, str]] = []
        self.artifacts: list[bytes] = []

    def register(
        self,
        _tracker: Tracker,
        name: str,
        _model: nn.Module,
        example: NDArray[np.uint8],
        tags: Mapping[str, str],
        artifact: bytes,
        _rule: ServedRule,
        *,
        is_exported: bool,
    ) -> str:
        assert is_exported
        assert (name, len(example)) == ("first", 2)
        self.tags.append(tags)
        self.artifacts.append(artifact)
        return "1"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    registry = FakeRegistry()
    monkeypatch.setattr(register, "register_champion", registry.register)

    def train(study: Study, trial: Trial, seeds: Sequence[int], *_: object, networks: bool) -> None:
        assert not networks
        for seed in seeds:
            train_repeat(study, trial, seed)

    monkeypatch.setattr(build, "train_repeats", train)
    return registry


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    """An ended study whose trial is refitted."""
    return study_with_champion(shards, tmp_path / "studies" / "first")


def num_champions(study: Study) -> int:
    return sum(isinstance(event, ChampionSelected) for event in study.journal.events)


def test_the_version_has_the_decision_and_after_the_repeats_their_objectives(
    study: Study, registry: FakeRegistry
) -> None:
    texts: list[str] = []
    champion = select_and_register_champion(study, NO_TRACKER, texts.append)
    assert texts[:2] == ["selecting the champion", "registering the champion"]
    assert (champion.trial.id, champion.version) == ("t0000", "1")
    assert champion.decision == study.history.champion_decision
    first_tags, last_tags = registry.tags
    assert first_tags["kind"] == "refit"
    assert first_tags["temperature"] == f"{champion.decision.temperature:.6g}"
    assert first_tags["threshold_criterion"] == "balanced_accuracy"
    (repeat,) = champion.repeats
    assert repeat.objective is not None
    assert last_tags == {**first_tags, "auroc_repeats": str(repeat.objective)}
    assert study.history.repeat_objectives == (repeat.objective.value,)
    artifact = unpack_model_artifact(registry.artifacts[0]).artifact
    assert artifact.threshold == champion.decision.threshold
    intervals = read_intervals(study.folder, study.history)
    assert intervals == selection_intervals(champion.selection)
    assert intervals["t0000"].value is not None


def test_the_journal_has_each_decision_once(study: Study, registry: FakeRegistry) -> None:
    options = SelectionOptions(criterion="f1")
    select_and_register_champion(study, NO_TRACKER, lambda _text: None, options)
    recorded = num_champions(study)
    champion = select_and_register_champion(study, NO_TRACKER, lambda _text: None)
    assert champion.decision.criterion == "f1"
    assert num_champions(study) == recorded
    assert len(registry.tags) == 4
