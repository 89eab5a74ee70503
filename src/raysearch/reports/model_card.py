"""A model card: the items of reporting guidelines, answered by the study, by people, or open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import yaml

from raysearch.errors import StudyError
from raysearch.reports.model_card_facts import Answer, answers
from raysearch.reports.reporting_checklists import CHECKLISTS, TOPICS, Checklist, Item
from raysearch.reports.study_report import Report

KNOWN, PARTLY, OPEN = "filled", "in part", "open"
# What a card begins with, before the checklists.
FIRST = {
    "What it is": "technology",
    "For what and whom": "intended_use",
    "Learned from": "sources",
    "Model": "model",
    "Output": "output",
    "How it was chosen": "selection",
    "Out of fold and held-out": "internal",
    "Elsewhere": "external",
    "Limits": "limits",
}


@dataclass(frozen=True)
class Line:
    """An item of a checklist: its `state`, what is known, and what a person has yet to say.

    `missing` maps the topics that are open to what is asked of a person.
    """

    number: str
    asks: str
    state: str
    known: str
    missing: Mapping[str, str]

    @property
    def text(self) -> str:
        """What is known, and what is open, in one."""
        open_ = "; ".join(f"{asked} (`{topic}`)" for topic, asked in self.missing.items())
        return " ".join(one for one in (self.known, f"Open: {open_}." if open_ else "") if one)


@dataclass(frozen=True)
class Part:
    """A checklist, answered."""

    name: str
    lines: tuple[Line, ...]

    @property
    def counts(self) -> str:
        """How many items are in which state."""
        states = [one.state for one in self.lines]
        told = (f"{states.count(one)} {one}" for one in (KNOWN, PARTLY, OPEN))
        return f"{len(states)} items: {', '.join(told)}"


@dataclass(frozen=True)
class Card:
    """What a reader wants first, by its heading, and the checklists."""

    name: str
    first: Mapping[str, str]
    parts: tuple[Part, ...]


def model_card(report: Report, said: Mapping[str, str]) -> Card:
    """The card of the champion of `report`; `said` is what people say of topics, as `read_said`."""
    known = answers(report)
    told = {topic: _with_words(known.get(topic), said.get(topic)) for topic in TOPICS}
    first = {heading: told[topic].known or f"Open (`{topic}`)." for heading, topic in FIRST.items()}
    return Card(report.plan.name, first, tuple(_part(one, told) for one in CHECKLISTS))


def _with_words(answer: Answer | None, words: str | None) -> Answer:
    """What is known with what a person adds, who leaves nothing open."""
    answer = answer or Answer(open="only a person can say")
    if not words:
        return answer
    return Answer(f"{answer.known} {words}".strip())


def _part(checklist: Checklist, told: Mapping[str, Answer]) -> Part:
    return Part(checklist.name, tuple(_line(item, told) for item in checklist.items))


def _line(item: Item, told: Mapping[str, Answer]) -> Line:
    found = {topic: told[topic] for topic in item.topics}
    known = " ".join(one.known for one in found.values() if one.known)
    missing = {topic: one.open for topic, one in found.items() if one.open}
    state = KNOWN if not missing else PARTLY if known else OPEN
    return Line(item.number, item.asks, state, known, missing)


def card_text(card: Card) -> str:
    """The card as Markdown."""
    return "\n".join(_lines(card))


def _lines(card: Card) -> Iterator[str]:
    yield f"# Model card of {card.name}\n"
    for heading, text in card.first.items():
        yield f"**{heading}.** {text}\n"
    for part in card.parts:
        yield f"## {part.name}\n\n{part.counts}.\n"
        yield "| item | asks for | state | |\n|---|---|---|---|"
        for line in part.lines:
            text = line.text.replace("|", "\\|").replace("\n", " ")
            yield f"| {line.number} | {line.asks} | {line.state} | {text} |"
        yield ""


def read_said(file: Path) -> dict[str, str]:
    """What people say of topics, from YAML: `topic: text`. StudyError where it is not that."""
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(f"--card {file}: {error.strerror}; name a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise StudyError(f"--card {file}: no YAML; write lines such as `funding: none`") from None
    if not isinstance(tree, dict) or not all(isinstance(one, str) for one in tree.values()):
        raise StudyError(f"--card {file}: give topics and texts, such as `funding: none`")
    for topic in tree:
        if topic not in TOPICS:
            near = get_close_matches(str(topic), TOPICS, 1) or [", ".join(TOPICS)]
            raise StudyError(f"--card {file}: {topic!r} is no topic; maybe {near[0]}")
    return {topic: " ".join(text.split()) for topic, text in tree.items()}
