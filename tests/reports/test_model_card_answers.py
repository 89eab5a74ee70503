"""The answers of a study: only to topics of the checklists, and none that a study cannot know."""

import pytest

from raysearch.data.pseudonyms import DisplayedNames
from raysearch.reports.model_card_answers import study_answers
from raysearch.reports.reporting_checklists import TOPICS
from raysearch.reports.study_report import study_report
from raysearch.search.study.study import Study

pytestmark = pytest.mark.filterwarnings("ignore")


def test_each_answer_has_a_text_or_says_what_is_missing(champion_study: Study) -> None:
    answers = study_answers(study_report(champion_study.folder), DisplayedNames(None))
    assert set(answers) <= set(TOPICS)
    assert all(answer.text or answer.missing for answer in answers.values())
    assert not {"funding", "ethics", "fairness", "annotators"} & set(answers)
