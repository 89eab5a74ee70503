"""The stored importances of a study."""

from pathlib import Path

import pytest

from raysearch.analysis import stored_importances
from raysearch.analysis.stored_importances import (
    importances_by_folds,
    read_importances,
    write_importances,
)
from raysearch.config.json_values import dump_checked, parse_checked
from raysearch.search.study.study import Study
from support.figure_studies import figure_study
from support.result_studies import fold_report, next_searched


@pytest.fixture
def study(shards: Path, tmp_path: Path) -> Study:
    return figure_study(shards, tmp_path / "studies" / "first")


def test_stored_importances_are_read_and_not_computed(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = write_importances(study.folder, study.plan, study.history)
    assert next(iter(expected.values())).fractions
    monkeypatch.delattr(stored_importances, "hyperparameter_importances")
    assert read_importances(study.folder, study.plan, study.history) == expected


@pytest.mark.parametrize("content", [None, b"{", b"[]", b'{"num_reports": 1}'])
def test_missing_or_damaged_importances_are_computed(study: Study, content: bytes | None) -> None:
    if content is not None:
        study.folder.write(study.folder.IMPORTANCES, content)
    expected = importances_by_folds(study.plan, study.history)
    assert read_importances(study.folder, study.plan, study.history) == expected


def test_importances_without_intervals_are_computed_again(study: Study) -> None:
    expected = write_importances(study.folder, study.plan, study.history)
    content = parse_checked(study.folder.read(study.folder.IMPORTANCES))
    assert isinstance(content, dict)
    for importances in content["by_folds"].values():
        del importances["intervals"]
    study.folder.write(study.folder.IMPORTANCES, dump_checked(content))
    assert read_importances(study.folder, study.plan, study.history) == expected


def test_importances_of_fewer_reports_are_computed_again(study: Study) -> None:
    old = write_importances(study.folder, study.plan, study.history)
    study.begin(study.history.planned(study.plan.space.trials) + 1)
    study.report(fold_report(next_searched(study).id, 1, 0.5))
    new = read_importances(study.folder, study.plan, study.history)
    assert new != old
    assert new == importances_by_folds(study.plan, study.history)
