"""Converts the records of a study to JSON and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from raysearch.errors import StudyError
from raysearch.search.journal.events import (
    ChampionSelected,
    Event,
    FoldReport,
    RepeatFailed,
    StudyLaunched,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialsExtended,
    TrialStarted,
    TrialWarning,
)

R = TypeVar("R")
# The value of `event` in an event's JSON.
EVENT_NAMES: Mapping[str, type[Event]] = {
    "launch": StudyLaunched,
    "extend": TrialsExtended,
    "trial": TrialStarted,
    "report": FoldReport,
    "pause": TrialPaused,
    "promote": TrialPromoted,
    "end": TrialEnded,
    "warning": TrialWarning,
    "champion": ChampionSelected,
    "repeat_failed": RepeatFailed,
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
        StudyError: If a field is missing, unknown or of another type.
    """
    if isinstance(content, Mapping) and is_dataclass(kind):
        unknown = content.keys() - {item.name for item in fields(kind)}
        if unknown:
            raise StudyError(f"{kind.__name__}: unknown field {min(map(str, unknown))!r}")
    try:
        record: R = _adapter(cast(Any, kind)).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(map(str, first["loc"]))
        raise StudyError(f"{kind.__name__}: {path or 'content'}: {first['msg']}") from None
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
        raise StudyError(f"unknown event {name!r}")
    fields_of_event = {key: value for key, value in content.items() if key != "event"}
    return record_from_json(EVENT_NAMES[name], fields_of_event)


def dump_event(event: Event) -> str:
    """Convert `event` to one line of JSON; ValueError for a number that is not finite."""
    return json.dumps(event_to_json(event), allow_nan=False, separators=(",", ":"))


def load_event(line: str) -> Event:
    """Convert a line of JSON to its event; StudyError if it is none."""
    try:
        content = json.loads(line)
    except ValueError:
        raise StudyError("not JSON") from None
    return event_from_json(content)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
