"""The intervals of a selection, as the study's folder stores them."""

from pathlib import Path

import pytest

from raysearch.search.study.study import Study
from raysearch.selection.selection import select
from raysearch.selection.stored_intervals import (
    read_intervals,
    selection_intervals,
    write_intervals,
)
from support.scored_trials import four_trials_study


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    return four_trials_study(shards, tmp_path / "studies" / "chosen")


def test_the_stored_intervals_are_those_of_the_selection(study: Study) -> None:
    selection = select(study.folder, study.plan, study.history)
    assert read_intervals(study.folder, study.history) == {}
    write_intervals(study.folder, selection)
    intervals = read_intervals(study.folder, study.history)
    assert intervals == selection_intervals(selection)
    assert set(intervals) == {"t0000", "t0001", "t0002", "t0003"}
    best = selection.candidates[0]
    assert intervals[best.trial.id] == best.objective


def test_a_trial_with_other_scores_has_no_interval(study: Study) -> None:
    write_intervals(study.folder, select(study.folder, study.plan, study.history))
    study.history.trials["t0002"].score_hashes[4] = "0" * 64
    assert set(read_intervals(study.folder, study.history)) == {"t0000", "t0001", "t0003"}


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"trials": {}}'])
def test_a_damaged_file_has_no_intervals(study: Study, content: bytes) -> None:
    study.folder.write(study.folder.INTERVALS, content)
    assert read_intervals(study.folder, study.history) == {}
