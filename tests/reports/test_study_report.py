"""The content of a report: the folds are evaluated with the champion's decision rule."""

import pytest

from raysearch.reports.study_report import study_report
from raysearch.search.study.study import Study

pytestmark = pytest.mark.filterwarnings("ignore")


def test_the_out_of_fold_scores_are_evaluated_with_the_decision_rule(champion_study: Study) -> None:
    report = study_report(champion_study.folder)
    decision = champion_study.history.champion_decision
    assert decision is not None
    out_of_fold = report.out_of_fold
    assert report.sets == (out_of_fold,)
    assert out_of_fold.scored.threshold == decision.threshold
    supports = [by_class.support for by_class in out_of_fold.evaluation.classes]
    assert sum(supports) == len(out_of_fold.scored.labels)
    assert set(out_of_fold.evaluation.folds) == {0, 1}
    assert out_of_fold.uncalibrated is not None
    assert out_of_fold.uncalibrated.error == pytest.approx(decision.error_before)
    assert out_of_fold.evaluation.reliability.error == pytest.approx(decision.error)
