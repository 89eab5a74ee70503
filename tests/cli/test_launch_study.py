"""The planned number of trials of a launch."""

from pathlib import Path

import pytest

from raysearch.cli.launch_study import _planned_trials
from raysearch.errors import SpaceError, StudyError
from raysearch.search.study.stored_study import load_study
from support.result_studies import TREE, new_study


def test_trials_are_added_to_a_study_and_never_removed(shards: Path, tmp_path: Path) -> None:
    study = new_study(shards, tmp_path / "first", TREE)
    plan, history, space = study.plan, study.history, study.plan.space
    assert _planned_trials(None, space, plan, history) == 12
    assert _planned_trials("+5", space, plan, history) == 17
    assert _planned_trials("13", space, plan, history) == 13
    assert _planned_trials("7", space, None, None) == 7
    study.begin(17)
    assert _planned_trials("+5", space, plan, history) == 22
    for text in ("0", "+0", "-3", "1.5", "many", "+"):
        with pytest.raises(SpaceError, match="give 1 or more"):
            _planned_trials(text, space, plan, history)
    with pytest.raises(StudyError, match="has 17 already"):
        _planned_trials("12", space, plan, history)
    with pytest.raises(SpaceError, match="a new study has no trials to add to"):
        _planned_trials("+5", space, None, None)
    assert load_study(study.folder).history.planned(12) == 17
