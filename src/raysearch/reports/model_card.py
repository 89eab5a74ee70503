"""The model card of a champion: reporting guidelines answered by the study and by its authors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from raysearch.config.yaml_loader import load_document
from raysearch.data.pseudonyms import DisplayedNames
from raysearch.errors import SpaceError, StudyError
from raysearch.printable_text import printable
from raysearch.reports.model_card_answers import Answer, study_answers
from raysearch.reports.reporting_checklists import CHECKLISTS, TOPICS, Checklist, Item
from raysearch.reports.study_report import StudyReport

ANSWERED, PARTLY_ANSWERED, OPEN = "answered", "partly answered", "open"
UNKNOWN_TO_STUDY = "not recorded in the study"
# The topics at the top of a card, by their headings.
SUMMARY_TOPICS = {
    "Technology": "technology",
    "Intended use": "intended_use",
    "Training data": "sources",
    "Model": "model",
    "Output": "output",
    "Model selection": "selection",
    "Internal evaluation": "internal",
    "External evaluation": "external",
    "Limitations": "limitations",
}


@dataclass(frozen=True)
class AnsweredItem:
    """An item of a checklist with its answer.

    Attributes:
        number: The number of the item.
        requirement: What the item requires.
        state: `ANSWERED`, `PARTLY_ANSWERED` or `OPEN`.
        text: The answer; may be empty.
        missing: What the authors have to add, by topic.
    """

    number: str
    requirement: str
    state: str
    text: str
    missing: Mapping[str, str]

    @property
    def full_text(self) -> str:
        """The answer, then what is missing."""
        missing = "; ".join(f"{request} (`{topic}`)" for topic, request in self.missing.items())
        return f"{self.text} {f'Open: {missing}.' if missing else ''}".strip()


@dataclass(frozen=True)
class AnsweredChecklist:
    """A checklist with its answers."""

    name: str
    items: tuple[AnsweredItem, ...]

    @property
    def counts(self) -> str:
        """The number of items in each state."""
        states = [item.state for item in self.items]
        counts = (f"{states.count(state)} {state}" for state in (ANSWERED, PARTLY_ANSWERED, OPEN))
        return f"{len(states)} items: {', '.join(counts)}"


@dataclass(frozen=True)
class ModelCard:
    """A model card: a summary, with a text for each heading, and the checklists."""

    name: str
    summary: Mapping[str, str]
    checklists: tuple[AnsweredChecklist, ...]


def model_card(
    report: StudyReport, card_answers: Mapping[str, str], names: DisplayedNames
) -> ModelCard:
    """Return the card of the champion of a study.

    Args:
        report: The report of the study.
        card_answers: The authors' answers by topic, as `read_card_answers` returns them.
        names: The names that the card shows.
    """
    from_study = study_answers(report, names)
    answers = {topic: _complete(from_study.get(topic), card_answers.get(topic)) for topic in TOPICS}
    summary = {
        heading: answers[topic].text or f"Open (`{topic}`)."
        for heading, topic in SUMMARY_TOPICS.items()
    }
    checklists = tuple(_answer_checklist(checklist, answers) for checklist in CHECKLISTS)
    return ModelCard(report.plan.name, summary, checklists)


def _complete(answer: Answer | None, card_answer: str | None) -> Answer:
    """Return the study's answer, completed by the authors' one, which leaves nothing open."""
    answer = answer or Answer(missing=UNKNOWN_TO_STUDY)
    return Answer(f"{answer.text} {card_answer}".strip()) if card_answer else answer


def _answer_checklist(checklist: Checklist, answers: Mapping[str, Answer]) -> AnsweredChecklist:
    items = tuple(_answer_item(item, answers) for item in checklist.items)
    return AnsweredChecklist(checklist.name, items)


def _answer_item(item: Item, answers: Mapping[str, Answer]) -> AnsweredItem:
    text = " ".join(answers[topic].text for topic in item.topics if answers[topic].text)
    missing = {topic: answers[topic].missing for topic in item.topics if answers[topic].missing}
    state = ANSWERED if not missing else PARTLY_ANSWERED if text else OPEN
    return AnsweredItem(item.number, item.requirement, state, text, missing)


def card_markdown(card: ModelCard) -> str:
    """Return the card as Markdown."""
    return printable("\n".join(_markdown_lines(card)))


def _markdown_lines(card: ModelCard) -> Iterator[str]:
    yield f"# Model card of {card.name}\n"
    for heading, text in card.summary.items():
        yield f"**{heading}.** {text}\n"
    for checklist in card.checklists:
        yield f"## {checklist.name}\n\n{checklist.counts}.\n"
        yield "| item | requirement | state | answer |\n|---|---|---|---|"
        for item in checklist.items:
            text = item.full_text.replace("|", "\\|").replace("\n", " ")
            yield f"| {item.number} | {item.requirement} | {item.state} | {text} |"
        yield ""


def read_card_answers(file: Path) -> dict[str, str]:
    """Read the authors' answers by topic from a YAML file with lines `topic: text`.

    Raises:
        StudyError: If the file cannot be read, is not such a mapping, or has an unknown topic.
    """
    try:
        tree = load_document(file).tree
    except SpaceError as error:
        if not file.is_file():
            raise StudyError(f"--card {file}: no such file; name a YAML file") from None
        if "not YAML" not in str(error):
            raise StudyError(f"--card {error}") from None
        raise StudyError(f"--card {file}: not YAML; write lines such as `funding: none`") from None
    if not isinstance(tree, dict) or not all(isinstance(text, str) for text in tree.values()):
        raise StudyError(f"--card {file}: give a text for each topic, such as `funding: none`")
    unknown = [str(topic) for topic in tree if topic not in TOPICS]
    if unknown:
        hints = [_unknown_topic(topic) for topic in unknown]
        raise StudyError(f"--card {file}: {'; '.join(hints)}")
    return {topic: " ".join(text.split()) for topic, text in tree.items()}


def _unknown_topic(topic: str) -> str:
    matches = get_close_matches(topic, TOPICS, 1)
    hint = f"did you mean {matches[0]!r}?" if matches else f"topics: {', '.join(TOPICS)}"
    return f"unknown topic {topic!r}; {hint}"
