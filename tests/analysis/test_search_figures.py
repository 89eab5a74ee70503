"""The figures of a study for each number of folds, and their captions."""

from pathlib import Path

from raysearch.analysis.search_figures import study_figures
from support.figure_studies import figure_study, study_with_two_numbers_of_folds
from support.result_studies import fold_report, new_study, next_searched


def test_trials_with_different_numbers_of_folds_have_separate_figures(
    shards: Path, tmp_path: Path
) -> None:
    study = study_with_two_numbers_of_folds(shards, tmp_path / "x")
    two, three = study_figures(study.plan, study.history)
    assert (two.folds, three.folds) == (2, 3)
    for figures in (two, three):
        assert figures.title_suffix == f", trials over {figures.folds} folds"
        lines = figures.parallel_coordinates.lines
        assert {line.trial.folds for line in lines} == {figures.folds}
        assert {point.trial for point in figures.optimization_history.points} == {
            line.trial.id for line in lines
        }
        assert "folds" not in dict(figures.importance.fractions)


def test_the_captions_of_a_searched_study(shards: Path, tmp_path: Path) -> None:
    study = figure_study(shards, tmp_path / "seen")
    (figures,) = study_figures(study.plan, study.history)
    assert figures.title_suffix == ""
    assert "by a random forest on" in " ".join(figures.importance_text.split())
    best = figures.optimization_history.best_so_far[-1][1]
    assert f"the best finished trial so far, now {best:.4f}" in figures.progress_text
    assert "The best third (" in figures.coordinates_text


def test_the_captions_of_a_study_that_has_just_started(shards: Path, tmp_path: Path) -> None:
    study = new_study(shards, tmp_path / "x")
    study.fail(next_searched(study).id, "nan-loss")
    assert study_figures(study.plan, study.history) == []
    study.report(fold_report(next_searched(study).id, 1, 0.7))
    (figures,) = study_figures(study.plan, study.history)
    assert "too few trials: 20 with reports are needed, not 1" in figures.importance_text
    assert "no trial has finished" in figures.progress_text
    assert "1 of 1 trials" in figures.coordinates_text
