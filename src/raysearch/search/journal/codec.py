"""Converts the records of a study to JSON and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from raysearch.config.json_values import parse_json
from raysearch.errors import StudyError, shortened
from raysearch.search.journal.events import (
    ChampionSelected,
    Event,
    FoldReport,
    RefitTrained,
    RepeatFailed,
    RepeatTrained,
    ScoresReplaced,
    StudyLaunched,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialSelected,
    TrialsExtended,
    TrialStarted,
    TrialWarning,
    ValueExcluded,
)

R = TypeVar("R")
# A message shows so many characters of a name in a damaged record.
MAX_PATH = 100
MAX_REASON = 200
# The value of `event` in an event's JSON.
EVENT_NAMES: Mapping[str, type[Event]] = {
    "launch": StudyLaunched,
    "extend": TrialsExtended,
    "exclude": ValueExcluded,
    "trial": TrialStarted,
    "report": FoldReport,
    "scores_replaced": ScoresReplaced,
    "pause": TrialPaused,
    "promote": TrialPromoted,
    "end": TrialEnded,
    "warning": TrialWarning,
    "selected": TrialSelected,
    "champion": ChampionSelected,
    "repeat_failed": RepeatFailed,
    "repeat_trained": RepeatTrained,
    "refit_trained": RefitTrained,
}
_NAME_OF = {kind: name for name, kind in EVENT_NAMES.items()}


def record_to_json(record: object) -> Any:
    """Convert `record` to JSON values; optional fields that are None are left out."""
    if is_dataclass(record):
        values = [(item, getattr(record, item.name)) for item in fields(record)]
        return {
            item.name: record_to_json(value)
            for item, value in values
            if value is not None or item.default is not None
        }
    if isinstance(record, Mapping):
        return {str(name): record_to_json(value) for name, value in record.items()}
    if isinstance(record, (list, tuple)):
        return [record_to_json(value) for value in record]
    return record


def record_from_json(kind: type[R], content: object) -> R:
    """Convert JSON values to a record of `kind`.

    Raises:
        StudyError: If a field of the record is missing or unknown, or a value cannot be converted.
    """
    if isinstance(content, Mapping) and is_dataclass(kind):
        unknown = content.keys() - {item.name for item in fields(kind)}
        if unknown:
            name = min(map(str, unknown))[:MAX_PATH]
            raise StudyError(f"{_name(kind)}: unknown field {name!r}")
    try:
        record: R = _adapter(cast(Any, kind)).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = shortened(".".join(map(str, first["loc"])), MAX_PATH)
        reason = shortened(first["msg"], MAX_REASON)
        raise StudyError(f"{_name(kind)}: {path or 'content'}: {reason}") from None
    except RecursionError:
        raise StudyError(f"{_name(kind)}: nested too deep") from None
    return record


def event_to_json(event: Event) -> dict[str, Any]:
    """Convert `event` to a JSON object that begins with its number, time and kind."""
    content: dict[str, Any] = record_to_json(event)
    head = {"number": event.number, "time": event.time, "event": _NAME_OF[type(event)]}
    return head | content


def event_from_json(content: object) -> Event:
    """Convert the JSON object of an event to its record.

    Raises:
        StudyError: If it is no event, or a field is missing, unknown or of another type.
    """
    if not isinstance(content, dict) or not isinstance(content.get("event"), str):
        raise StudyError("a JSON object with the key `event` is missing")
    name = content["event"]
    if name not in EVENT_NAMES:
        raise StudyError(f"unknown event {name[:MAX_PATH]!r}")
    fields_of_event = {key: value for key, value in content.items() if key != "event"}
    return record_from_json(EVENT_NAMES[name], fields_of_event)


def dump_event(event: Event) -> str:
    """Convert `event` to one line of JSON; ValueError for a number that is not finite."""
    return json.dumps(event_to_json(event), allow_nan=False, separators=(",", ":"))


def load_event(line: str) -> Event:
    """Convert a line of JSON to its event; StudyError if it is none."""
    try:
        content = parse_json(line)
    except ValueError:
        raise StudyError("not JSON") from None
    return event_from_json(content)


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", "content")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
