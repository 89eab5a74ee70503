"""The model card: answers of the study, answers of the authors, and what remains open."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from raysearch.data.pseudonyms import DisplayedNames
from raysearch.errors import StudyError
from raysearch.reports.model_card import (
    ANSWERED,
    OPEN,
    PARTLY_ANSWERED,
    card_markdown,
    model_card,
    read_card_answers,
)
from raysearch.reports.study_report import study_report
from raysearch.search.study.study import Study

pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_card_has_the_answers_of_the_study_and_lists_what_is_open(champion_study: Study) -> None:
    report = study_report(champion_study.folder)
    claim, tripod = model_card(report, {}, DisplayedNames(None)).checklists
    assert [item.number for item in claim.items] == [str(number + 1) for number in range(44)]
    assert len(tripod.items) == 52
    by_number = {item.number: item for item in claim.items}
    assert by_number["19"].state == ANSWERED
    assert champion_study.plan.splits[0].hash[:12] in by_number["19"].full_text
    assert by_number["7"].state == PARTLY_ANSWERED
    assert champion_study.plan.fingerprint[:12] in by_number["7"].text
    assert by_number["44"].state == OPEN
    assert by_number["44"].full_text == "Open: not recorded in the study (`funding`)."
    assert "The held-out test set is not evaluated yet" in by_number["32"].full_text
    assert str(report.selection.corrected) in by_number["2"].full_text
    assert claim.counts == "44 items: " + ", ".join(
        f"{sum(item.state == state for item in claim.items)} {state}"
        for state in (ANSWERED, PARTLY_ANSWERED, OPEN)
    )


def test_answers_of_the_authors_complete_a_card(champion_study: Study, tmp_path: Path) -> None:
    report = study_report(champion_study.folder)
    file = tmp_path / "card.yaml"
    file.write_text("funding: |\n  None,\n  from nobody.\nsources: Two hospitals | 2008.\n")
    card = model_card(report, read_card_answers(file), DisplayedNames(None))
    by_number = {item.number: item for item in card.checklists[0].items}
    assert (by_number["44"].state, by_number["44"].full_text) == (ANSWERED, "None, from nobody.")
    assert by_number["7"].state == ANSWERED
    assert by_number["7"].full_text.endswith("Two hospitals | 2008.")
    row = next(line for line in card_markdown(card).splitlines() if line.startswith("| 7 |"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fundin: none", "unknown topic 'fundin'; did you mean 'funding'?"),
        ("fundin: none\nethic: none", "'fundin'; did you mean 'funding'?; unknown topic 'ethic'"),
        ("funding: 3", "give a text for each topic, such as `funding: none`"),
        ("[", "not YAML"),
        (None, "no such file"),
    ],
)
def test_a_file_that_does_not_answer_topics_is_rejected(
    tmp_path: Path, text: str | None, message: str
) -> None:
    file = tmp_path / "card.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(StudyError, match=re.escape(message)):
        read_card_answers(file)
