"""A new study starts with the best configurations of earlier ones."""

from pathlib import Path
from typing import Any

import pytest

from raysearch.config.space import Space
from raysearch.config.space_file import parse_space
from raysearch.errors import StudyError
from raysearch.search.journal.events import TrialStarted
from raysearch.search.scheduling.policy import SearchPolicy
from raysearch.search.study.warm_start import warm_started
from support.result_studies import TREE, new_study, train_next


def space_of(**settings: Any) -> Space:
    return parse_space(TREE | settings, "x")


def test_a_study_starts_with_the_best_trials_of_earlier_ones(shards: Path, tmp_path: Path) -> None:
    study = new_study(shards, tmp_path / "first", TREE)
    train_next(study, 12)
    space = warm_started(space_of(warm_start=["first"]), str(tmp_path))
    best = max(study.history.done(), key=lambda trial: trial.final_objective)
    assert len(space.points_to_evaluate) == min(3, len(study.history.done()))
    assert dict(space.points_to_evaluate[0])["learning_rate"] == best.hparams["learning_rate"]
    first = SearchPolicy(space).next()
    assert isinstance(first, TrialStarted)
    assert first.hparams["learning_rate"] == best.hparams["learning_rate"]


def test_an_unusable_earlier_study_is_rejected_in_one_line(shards: Path, tmp_path: Path) -> None:
    new_study(shards, tmp_path / "empty", TREE)
    study = new_study(shards, tmp_path / "first", TREE)
    train_next(study, 12)
    with pytest.raises(StudyError, match="no study 'none'"):
        warm_started(space_of(warm_start=["none"]), str(tmp_path))
    with pytest.raises(StudyError, match="has no finished trial"):
        warm_started(space_of(warm_start=["empty"]), str(tmp_path))
    narrow = {**TREE["space"], "learning_rate": {"loguniform": [1e-9, 1e-8]}}
    with pytest.raises(StudyError, match="has another space: its best learning_rate is"):
        warm_started(space_of(warm_start=["first"], space=narrow), str(tmp_path))
    other = space_of(warm_start=["first"], objective={"metric": "f1"})
    with pytest.raises(StudyError, match="has the objective auroc, max, this one has f1, max"):
        warm_started(other, str(tmp_path))
