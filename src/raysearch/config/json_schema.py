"""The JSON schema of space files, with which an editor marks a mistake while it is typed.

It comes from the model of the file and the table of hyperparameters. It has no check of one
hyperparameter against another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from raysearch.config.hyperparameter_spec import SELECTORS, HyperparameterSpec
from raysearch.config.hyperparameters import HYPERPARAMETERS
from raysearch.config.samplers import SAMPLERS
from raysearch.config.space_model import IMPORT_PATTERN, SpaceFile

Schema = dict[str, Any]
WIDTH = 100
# What pydantic adds, and an editor does not need.
OMITTED = ("title", "default", "discriminator")
# A dot in a pattern.
DOT = r"\."


def schema_text() -> str:
    """Return the schema as `searchspace/schema.json` has it; short values are on one line."""
    return _json_lines(schema(), "") + "\n"


def _json_lines(value: object, indent: str) -> str:
    text = json.dumps(value, allow_nan=False)
    if len(indent + text) <= WIDTH or not isinstance(value, dict | list):
        return text
    deeper, (opening, closing) = indent + " ", "{}" if isinstance(value, dict) else "[]"
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {_json_lines(inner, deeper)}" for key, inner in value.items()]
    else:
        parts = [_json_lines(inner, deeper) for inner in value]
    lines = ",\n".join(deeper + part for part in parts)
    return f"{opening}\n{lines}\n{indent}{closing}"


def schema() -> Schema:
    """Return the JSON schema (draft 7) of a space file."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A search space of raysearch",
        **_object(_settings()),
        "required": ["space"],
        "definitions": {
            **{name: _value(row) for name, row in HYPERPARAMETERS.items()},
            "hparams": _object({name: _entry(row) for name, row in HYPERPARAMETERS.items()}),
            "when": _object({name: _one_or_list(_ref(name)) for name in HYPERPARAMETERS}),
        },
    }


def _settings() -> dict[str, Schema]:
    """Return the schemas of the keys of a file, with their descriptions."""
    model = SpaceFile.model_json_schema(mode="validation")
    definitions = model["$defs"]
    point = {**_object({name: _ref(name) for name in HYPERPARAMETERS}), "minProperties": 1}
    special: dict[str, Schema] = {
        "sampler": _sampler(),
        "points_to_evaluate": {"type": "array", "items": point, "uniqueItems": True},
        "space": {**_ref("hparams", beside=True), "minProperties": 1},
    }
    settings = {}
    for name, field in SpaceFile.model_fields.items():
        inner_schema = special.get(name) or _inlined(model["properties"][name], definitions)
        inner_schema.pop("description", None)
        settings[name] = {"description": field.description, **inner_schema}
    return settings


def _inlined(part: Any, definitions: Mapping[str, Schema]) -> Any:
    """Return a part of pydantic's schema without references and without what editors ignore."""
    if isinstance(part, list):
        return [_inlined(item, definitions) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        target = definitions[part["$ref"].rpartition("/")[2]]
        return _inlined(
            {**target, **{key: part[key] for key in part if key != "$ref"}}, definitions
        )
    inlined: Schema = {}
    for key, value in part.items():
        if key == "properties":
            inlined[key] = {name: _inlined(inner, definitions) for name, inner in value.items()}
        elif key not in OMITTED:
            inlined[key] = _inlined(value, definitions)
    if "patternProperties" in inlined:
        inlined |= {"additionalProperties": False}
    if "properties" in inlined:  # the docstring of a section
        inlined.pop("description", None)
    return inlined


def _sampler() -> Schema:
    """Return the schema of the name of a sampler, or of its name and its options."""
    names = {"enum": list(SAMPLERS)}
    options = []
    for name, sampler in SAMPLERS.items():
        inner_schema = _inlined(TypeAdapter(sampler).json_schema(), {})
        inner_schema["properties"]["name"] = {}
        condition = {"properties": {"name": {"const": name}}}
        options.append({"if": condition, "then": inner_schema})
    section = {"properties": {"name": names}, "required": ["name"], "allOf": options}
    return {"if": {"type": "object"}, "then": section, "else": names}


def _entry(row: HyperparameterSpec) -> Schema:
    """Return the schema of a value, or of a section with one of the kinds.

    `if` instead of `anyOf` gives one message for a mistake.
    """
    value = _ref(row.name)
    kinds: dict[str, Schema] = {
        "value": value,
        "choice": {
            "if": {"type": "object"},
            "then": {**_nested_choice(row), "minProperties": 1},
            "else": {"type": "array", "items": value, "minItems": 1, "uniqueItems": True},
        },
    }
    pair = {"type": "array", "minItems": 2, "maxItems": 2}
    ranges = {int: ("int", "logint"), float: ("uniform", "loguniform")}
    for kind in ranges.get(row.type, ()):
        above = {"exclusiveMinimum": 0} if kind.startswith("log") else {}
        kinds[kind] = {**pair, "items": {"allOf": [value, above]} if above else value}
    section = {
        **_object({**kinds, "when": _ref("when")}),
        "oneOf": [{"required": [kind]} for kind in kinds],
    }
    return {"if": {"type": "object"}, "then": section, "else": value}


def _nested_choice(row: HyperparameterSpec) -> Schema:
    """Return the schema of a mapping from values to the hyperparameters that exist with them."""
    inner = {"anyOf": [_ref("hparams"), {"type": "null"}]}
    if row.type in (int, float):
        return {"additionalProperties": inner, "propertyNames": {"pattern": "^[-+.0-9eE]+$"}}
    if row.suffixes or row.prefixes:
        return {"additionalProperties": inner}
    names = row.choices if row.type is str else ("true", "false")
    custom = {"patternProperties": {IMPORT_PATTERN: inner}} if row.name in SELECTORS else {}
    return {**_object(dict.fromkeys(names, inner)), **custom}


def _value(row: HyperparameterSpec) -> Schema:
    if row.suffixes or row.prefixes:
        texts = "|".join(text.replace(".", DOT) for text in row.suffixes or row.prefixes)
        pattern = f"({texts})$" if row.suffixes else f"^({texts})"
        ways = [{"enum": list(row.choices)}, {"pattern": pattern}]
        return {"anyOf": [*ways, *([{"pattern": IMPORT_PATTERN}] if row.name in SELECTORS else [])]}
    if row.name in SELECTORS:
        return {"anyOf": [{"enum": list(row.choices)}, {"pattern": IMPORT_PATTERN}]}
    if row.type is str:
        return {"enum": list(row.choices)}
    if row.type is bool:
        return {"type": "boolean"}
    kind = "integer" if row.type is int else "number"
    return {"type": kind, "minimum": row.low, "maximum": row.high}


def _object(properties: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "properties": dict(properties), "additionalProperties": False}


def _one_or_list(item: Schema) -> Schema:
    items = {"type": "array", "items": item, "minItems": 1}
    return {"if": {"type": "array"}, "then": items, "else": item}


def _ref(name: str, *, beside: bool = False) -> Schema:
    """Return a reference; draft 7 allows other keys beside it only if it is in an `allOf`."""
    reference = {"$ref": f"#/definitions/{name}"}
    return {"allOf": [reference]} if beside else reference
