"""Errors in a space file: one line each, with the line of the file and the nearest known name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from raysearch.config.hyperparameter_entry import BRANCHES_KEY
from raysearch.config.hyperparameters import HYPERPARAMETERS
from raysearch.config.names import candidates, suggestion
from raysearch.config.samplers import SAMPLERS
from raysearch.config.space import Budget, NetworkLimits
from raysearch.config.space_model import (
    ObjectiveSection,
    ResourcesSection,
    SpaceFile,
    StoppingSection,
)
from raysearch.config.yaml_loader import YamlDocument, location_key
from raysearch.errors import SpaceError

Path = tuple[object, ...]
MAX_VALUE_LENGTH = 100
MAX_ERRORS = 50
LISTS = ("points_to_evaluate", "constraints", "warm_start", "auxiliary")
SECTIONS: dict[str, type] = {
    "objective": ObjectiveSection,
    "resources": ResourcesSection,
    "stopping": StoppingSection,
    "budget": Budget,
    "limits": NetworkLimits,
}
NOT_A_MAPPING = ("dict_type", "model_type", "dataclass_type", "model_attributes_type")


@dataclass(frozen=True)
class FileError:
    """An error at `path`, the keys and list indices that lead to a value of a file."""

    path: Path
    message: str

    def text(self, document: YamlDocument) -> str:
        """Return the error in one line, with the line of the file if it is known."""
        place = document.place_of(self.path)
        keys = [
            str(int(str(key)) + 1) if index == 1 and self.path[0] in LISTS else location_key(key)
            for index, key in enumerate(self.path)
        ]
        text = ": ".join(filter(None, [".".join(keys), self.message]))
        return " ".join(f"{f'{place}: ' if place else ''}{text}".split())


def space_error(origin: str, errors: Iterable[FileError], document: YamlDocument) -> SpaceError:
    """Return the exception with all `errors` of the file `origin`, in the order of its lines."""
    ordered = sorted(dict.fromkeys(errors), key=lambda error: document.line_of(error.path) or 0)
    texts = list(dict.fromkeys(error.text(document) for error in ordered))
    if len(texts) == 1:
        return SpaceError(f"{origin}: {texts[0]}")
    num_hidden = len(texts) - MAX_ERRORS
    hidden = [f"and {num_hidden:,} more"] if num_hidden > 0 else []
    shown = texts[:MAX_ERRORS] + hidden
    return SpaceError("\n  ".join([f"{origin}: {len(texts):,} errors", *shown]))


def model_errors(error: ValidationError) -> list[FileError]:
    """Return the errors of a `SpaceFile` that pydantic rejected, in plain words."""
    return [_file_error(details) for details in error.errors(include_url=False)]


def _file_error(details: ErrorDetails) -> FileError:
    """Return one error of pydantic; its path has no names that only the model knows."""
    path = [key for key in details["loc"] if key != "[key]"]
    if path[:1] == ["sampler"] and len(path) > 1:
        del path[1]  # the sampler's name, by which pydantic selects the model
    names = [("choice" if key == BRANCHES_KEY else key) for key in path]
    return FileError(tuple(names), _message(details, tuple(names)))


def _message(details: ErrorDetails, path: Path) -> str:
    """Return what is wrong with the input, in one line without its location."""
    kind, value = details["type"], _shortened(details["input"])
    if isinstance(details["input"], float) and not math.isfinite(details["input"]):
        return f"{value} is not a number"
    if kind in TYPES:
        return f"{value} is not {TYPES[kind]}"
    if kind in NOT_A_MAPPING:
        return f"{value} is not a mapping{_mapping_hint(path)}"
    message = MESSAGES.get(kind)
    return details["msg"] if message is None else message(details, path)


def _unknown_key(details: ErrorDetails, path: Path) -> str:
    if len(path) == 1:
        if path[0] in HYPERPARAMETERS:
            return "a hyperparameter; move it into the section `space`"
        keys = list(SpaceFile.model_fields)
        if not suggestion(path[0], keys) and (hint := suggestion(path[0], HYPERPARAMETERS)):
            return f"unknown key{hint} That is a hyperparameter of the section `space`"
    elif path[0] == "sampler":
        keys = _keys_of(SAMPLERS[str(details["loc"][1])])
    else:
        keys = _keys_of(SECTIONS[str(path[0])])
    return f"unknown key{candidates(path[-1], keys) if keys else ' (it has no options)'}"


def _unknown_value(details: ErrorDetails, _path: Path) -> str:
    context = details["ctx"]
    value = context.get("tag", details["input"])
    names = re.findall(r"'([^']*)'", context.get("expected_tags", context.get("expected", "")))
    return f"{value!r} is unknown{candidates(value, names)}"


def _missing_sampler(_details: ErrorDetails, _path: Path) -> str:
    return f"`name` is missing (known: {', '.join(SAMPLERS)})"


def _below_minimum(details: ErrorDetails, _path: Path) -> str:
    return f"{_shortened(details['input'])} is below the minimum {details['ctx']['ge']:g}"


def _above_maximum(details: ErrorDetails, _path: Path) -> str:
    return f"{_shortened(details['input'])} is above the maximum {details['ctx']['le']:g}"


MESSAGES: dict[str, Callable[[ErrorDetails, Path], str]] = {
    "extra_forbidden": _unknown_key,
    "unexpected_keyword_argument": _unknown_key,
    "invalid_key": lambda _details, _path: "a key is text; put it in quotation marks",
    "missing": lambda _details, _path: "this key is required",
    "literal_error": _unknown_value,
    "union_tag_invalid": _unknown_value,
    "union_tag_not_found": _missing_sampler,
    "greater_than_equal": _below_minimum,
    "less_than_equal": _above_maximum,
    "too_short": lambda _details, _path: "it is empty",
}
TYPES = {
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "string_too_short": "a text with characters in it",
    "list_type": "a list",
    "tuple_type": "a text or a list of texts",
}


def _keys_of(section: type) -> list[str]:
    """Return the keys of a section of the file: the fields of a model or a dataclass."""
    names = getattr(section, "model_fields", None) or getattr(section, "__dataclass_fields__", {})
    return [name for name in names if name not in ("name", "__pydantic_config__")]


def _mapping_hint(path: Path) -> str:
    """Return what the mapping at `path` should hold."""
    if path == ("sampler",):
        return f" or the name of a sampler (known: {', '.join(SAMPLERS)})"
    if path == ("resources", "prices"):
        return " of node types to dollars per hour"
    if path == ("space",):
        return " of hyperparameters, such as {learning_rate: 0.001}"
    if path[:1] == ("space",):
        return " of hyperparameters; give {} for none"
    if path[:1] == ("points_to_evaluate",):
        return " such as {learning_rate: 0.001}"
    section = SECTIONS.get(str(path[0])) if path else None
    return "" if section is None else f" with keys {', '.join(_keys_of(section))}"


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[:MAX_VALUE_LENGTH]}..."
